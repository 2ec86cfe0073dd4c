/* framesrv.h: the newest raw frames of a camera, from shared memory, in C11 or C++, without another library.
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * One source file of a program defines FRAMESRV_IMPLEMENTATION and includes this header before any other; all others
 * only include it. `cc -I"$(framesrv include-dir)" -pthread`. It is for 64-bit little-endian Linux, GCC or Clang.
 *
 * Threads: several may use one reader at once, and a frame may be released by another thread than took it. A
 * framesrv_frames is for one thread at a time. framesrv_close is called when no other call with that reader runs.
 * Fork: a child makes readers of its own, for locks belong to open files, which it shares. One of its parent's gives
 * FRAMESRV_FORKED, and releasing its parent's frames leaves them pinned for the parent. A parent that dies leaves its
 * pins to its children, until they end or call exec.
 *
 * SIGBUS: who may write a segment may cut it short, and to touch what is gone raises this signal. The first segment
 * that is attached installs a handler, which maps zeros in its place and marks the segment; framesrv_check and
 * framesrv_release then say FRAMESRV_GONE. Of all other addresses the signal goes to the handler that was there
 * before. A program that installs one of its own later passes on what is not its own. */

#ifndef FRAMESRV_H
#define FRAMESRV_H

#if defined(FRAMESRV_IMPLEMENTATION) && !defined(_GNU_SOURCE)
#define _GNU_SOURCE /* for F_OFD_SETLK */
#endif
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What calls return; framesrv_error has the sentence. */
enum framesrv_code {
    FRAMESRV_OK = 0,
    FRAMESRV_ABSENT,     /* no segment: the decoder was never started, or has been stopped */
    FRAMESRV_DOWN,       /* no decoder */
    FRAMESRV_CONNECTING, /* no picture yet */
    FRAMESRV_STALLED,    /* the stream stands still */
    FRAMESRV_STALE,      /* frames come, none fresh enough in time */
    FRAMESRV_GONE,       /* the segment was cut short: zeros may have been read for pixels */
    FRAMESRV_FORMAT,     /* no segment, or of another layout version, or damaged */
    FRAMESRV_OWNER,      /* it belongs to a user who is not trusted */
    FRAMESRV_UNREADABLE, /* this user may not read it, or it cannot be opened or mapped */
    FRAMESRV_INVALID,    /* an argument is wrong */
    FRAMESRV_FORKED,     /* the reader was made before fork(2) */
    FRAMESRV_SYSTEM      /* no memory, or the system refuses something that it never should */
};

enum { FRAMESRV_YUV420P = 1, FRAMESRV_BGR24 = 2 };                          /* pixel_format */
enum { FRAMESRV_BT709 = 1, FRAMESRV_BT601 = 6, FRAMESRV_BT2020 = 9 };       /* matrix, as in ITU-T H.273 */
enum { FRAMESRV_LIMITED_RANGE = 1, FRAMESRV_FULL_RANGE = 2 };               /* range */
enum { FRAMESRV_CLOCK_ARRIVAL = 0, FRAMESRV_CLOCK_CAMERA = 1 };             /* clock */
#define FRAMESRV_NO_PTS INT64_MIN
#define FRAMESRV_ANY_AGE (-1.0)

/* Filled where a call fails, and only there. */
typedef struct framesrv_error {
    int code;        /* as returned */
    double age;      /* seconds since the newest frame arrived; negative: there is none */
    char cause[17];  /* of the newest error of the camera's source, one word; empty: not known */
    char text[640];  /* a sentence, UTF-8 */
} framesrv_error;

typedef struct framesrv_plane {
    const uint8_t *data; /* shared memory, mapped read-only; constant until the frame is released */
    uint32_t stride;     /* bytes from one row to the next */
    uint32_t rows;
    uint32_t used;       /* bytes of a row that are picture */
} framesrv_plane;

typedef struct framesrv_frame {
    framesrv_plane planes[3]; /* Y, U, V, or BGR alone; those that the format does not have are 0 */
    uint32_t width, height;   /* pixels */
    uint32_t pixel_format;
    uint32_t matrix, range;   /* of YUV */
    uint32_t key_frame;       /* 1: decoded without reference to another */
    uint32_t clock;           /* of captured: arrival at this host, or the camera's own */
    uint32_t aspect_width, aspect_height; /* of a pixel: 1 and 1, but where a picture is stretched to be shown */
    uint32_t rotated;         /* degrees that the decoder has turned the picture by, clockwise: 0, 90, 180, 270 */
    uint64_t seq;             /* from 1, rising, with gaps where frames were not read */
    int64_t pts;              /* presentation time, ns; FRAMESRV_NO_PTS: unknown */
    uint64_t captured;        /* Unix time, ns */
    uint64_t arrived;         /* CLOCK_MONOTONIC, ns */
    void *pin;                /* for framesrv_release; NULL: released */
    uint32_t slot;            /* likewise */
} framesrv_frame;

typedef struct framesrv_reader framesrv_reader;
typedef struct framesrv_frames framesrv_frames;

/* A reader of one camera; NULL on an error. It attaches by itself, at first use and whenever the segment has been
 * replaced: the camera need not be there yet. `error` may be NULL here and below.
 *
 * prefix  of segment names, as in [shm] prefix; NULL: framesrv
 * owner   the user, by name or number, that the decoder runs as, as in [shm] owner. NULL: this process's own, root,
 *         or the one that the camera's unit has under systemd. A segment of anybody else is not read. */
framesrv_reader *framesrv_open(const char *code, const char *prefix, const char *owner, framesrv_error *error);

/* Detaches. Frames that are pinned stay valid until they are released. End before it what framesrv_frames_begin gave. */
void framesrv_close(framesrv_reader *reader);

/* The newest frame, pinned: release it. Until it is, its slot is not written again. A camera on demand is decoded
 * while this waits.
 *
 * max_age  seconds; for a younger frame than that it waits. 0: one that arrives after the call. FRAMESRV_ANY_AGE. Of a
 *          camera that gives less than two frames a second, half a second or more means until the next is overdue.
 * timeout  seconds to wait; 0 does not wait */
int framesrv_latest(framesrv_reader *reader, double max_age, double timeout, framesrv_frame *frame,
                    framesrv_error *error);

/* Every frame from now on, the newest each time; NULL on an error. Who is slower than the camera misses frames (a gap
 * in seq), but never gets one twice. A camera on demand is decoded from the first framesrv_frames_next to
 * the end. */
framesrv_frames *framesrv_frames_begin(framesrv_reader *reader, framesrv_error *error);
int framesrv_frames_next(framesrv_frames *frames, double timeout, framesrv_frame *frame, framesrv_error *error);
void framesrv_frames_end(framesrv_frames *frames);

/* Gives the pin back; again it does nothing. FRAMESRV_GONE where framesrv_check says so. */
int framesrv_release(framesrv_frame *frame);

/* FRAMESRV_OK, or FRAMESRV_GONE if the segment of a pinned frame was cut short. Ask after having read pixels. */
int framesrv_check(const framesrv_frame *frame);

/* Seconds since the frame arrived at this host. */
double framesrv_age(const framesrv_frame *frame);

/* What a code means, in a sentence. */
const char *framesrv_meaning(int code);

#ifdef __cplusplus
}
#endif
#endif /* FRAMESRV_H */

#if defined(FRAMESRV_IMPLEMENTATION) && !defined(FRAMESRV_IMPLEMENTED)
#define FRAMESRV_IMPLEMENTED

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <pwd.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#ifndef F_OFD_SETLK
#error "include framesrv.h before any other header where FRAMESRV_IMPLEMENTATION is defined, or give -D_GNU_SOURCE"
#endif
#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__ || __SIZEOF_POINTER__ != 8
#error "framesrv.h is for 64-bit little-endian Linux"
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* The bytes of a segment, as the tables of framesrv/segment/layout.py have them: a test compares both. */
#define FRAMESRV_MAGIC_ UINT64_C(0x565253454d415246)
#define FRAMESRV_VERSION_ 1u
#define FRAMESRV_OLDEST_ 1u /* that is still understood */
#define FRAMESRV_PAGE_ 4096u
#define FRAMESRV_MAX_SLOTS_ 16u
#define FRAMESRV_MAX_SIDE_ 16384u
#define FRAMESRV_NO_SLOT_ 0xffffffffu
#define FRAMESRV_LIVE_ 1u
#define FRAMESRV_WRITER_BYTE_ 0
#define FRAMESRV_DEMAND_BYTE_ 1
#define FRAMESRV_SLOT_BYTE_ 16

struct framesrv_plane_ {
    uint64_t offset;
    uint32_t stride;
    uint32_t rows;
    uint32_t used;
    uint32_t zero;
};

struct framesrv_record_ {
    uint64_t seq;
    int64_t pts;
    uint64_t captured;
    uint64_t arrived;
    uint32_t matrix;
    uint32_t range;
    uint32_t key_frame;
    uint32_t clock;
    uint32_t aspect_width;
    uint32_t aspect_height;
    uint32_t rotated;
    uint8_t unused_60[68];
};

struct framesrv_header_ {
    uint64_t magic;
    uint32_t version;
    uint32_t retired;
    uint32_t sequence;
    uint32_t newest;
    uint32_t slots;
    uint32_t pixel_format;
    uint32_t width;
    uint32_t height;
    uint64_t slot_offset;
    uint64_t slot_size;
    struct framesrv_plane_ planes[3];
    uint32_t state;
    uint32_t pid;
    uint64_t started;
    uint64_t frames;
    uint64_t dropped;
    uint64_t blocked;
    uint64_t corrupt;
    uint64_t reconnects;
    uint64_t bytes;
    uint64_t decode;
    uint64_t activity;
    uint64_t interval;
    uint64_t seq;
    char decode_policy[32];
    char error[256];
    char cause[16];
    uint32_t crashes;
    uint32_t attempts;
    uint32_t restarts;
    uint8_t unused_540[4];
    char transport[16];
    uint64_t frozen;
    int64_t clock_ahead;
    uint8_t unused_576[1472];
    struct framesrv_record_ records[16];
};

/* As elsewhere in framesrv; nanoseconds. */
#define FRAMESRV_LIVENESS_ INT64_C(500000000) /* between looks at what cannot wake who waits: a writer killed */
#define FRAMESRV_STALL_ INT64_C(3000000000)   /* of silence, after which a camera is stalled */
#define FRAMESRV_SLOW_ INT64_C(500000000)     /* between frames, above which a camera is slow */
#define FRAMESRV_LATE_ 1.5                    /* times that, after which the next frame is overdue */
#define FRAMESRV_LONGEST_NAME_ 31             /* characters of a user's name, as systemd takes them */

/* A mapping that the handler of SIGBUS knows. These are kept for ever and used again: it may be reading them. */
struct framesrv_guard_ {
    uintptr_t begin, end;
    int cut, taken;
    struct framesrv_guard_ *next;
};

/* One segment as one reader has it. Locks belong to its open file, which all threads share, so pins are counted: the
 * first takes the lock of its slot, the last gives it back. Reader, pins, demands and running calls refer to it. */
struct framesrv_attachment_ {
    struct framesrv_header_ *header; /* mapped read-only */
    size_t nbytes;
    int fd;
    pid_t pid;
    uint64_t number; /* of this reader's attachments, from 1 */
    unsigned references;
    struct framesrv_guard_ *guard;
    uint32_t slots, width, height, pixel_format, plane_count;
    uint64_t slot_size;
    struct framesrv_plane_ planes[3];
    pthread_mutex_t mutex; /* of what follows */
    unsigned pins[FRAMESRV_MAX_SLOTS_], asking;
};

struct framesrv_reader {
    char code[65], path[160];
    int has_owner;
    uid_t owner;
    pid_t pid;
    pthread_mutex_t mutex; /* of what follows */
    struct framesrv_attachment_ *attachment;
    uint64_t attachments;
};

struct framesrv_frames {
    framesrv_reader *reader;
    uint64_t origin, last; /* the attachment that the frame before was of, and its number */
    struct framesrv_attachment_ *asked;
};

static struct framesrv_guard_ *framesrv_guards_;
static pthread_mutex_t framesrv_guards_mutex_ = PTHREAD_MUTEX_INITIALIZER;
static struct sigaction framesrv_former_;
static uintptr_t framesrv_page_size_; /* 0: the handler is not installed */

static int64_t framesrv_now_(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static int64_t framesrv_min_(int64_t one, int64_t other) { return one < other ? one : other; }

static uint32_t framesrv_load_(const uint32_t *word) { return __atomic_load_n(word, __ATOMIC_ACQUIRE); }

__attribute__((format(printf, 3, 4))) static int framesrv_fail_(framesrv_error *error, int code, const char *format,
                                                                ...) {
    if (error != NULL) {
        va_list values;
        memset(error, 0, sizeof *error);
        error->code = code;
        error->age = -1;
        va_start(values, format);
        vsnprintf(error->text, sizeof error->text, format, values);
        va_end(values);
    }
    return code;
}

const char *framesrv_meaning(int code) {
    switch (code) {
    case FRAMESRV_OK: return "all is well";
    case FRAMESRV_ABSENT: return "there is no segment: its decoder was never started, or has been stopped";
    case FRAMESRV_DOWN: return "its decoder is not running";
    case FRAMESRV_CONNECTING: return "its decoder has no picture yet";
    case FRAMESRV_STALLED: return "its stream stands still";
    case FRAMESRV_STALE: return "no new frame came in time";
    case FRAMESRV_GONE: return "the frame is gone: its segment was cut short while it was pinned";
    case FRAMESRV_FORMAT: return "it is no segment, or of another layout version, or damaged";
    case FRAMESRV_OWNER: return "the segment belongs to a user who is not trusted";
    case FRAMESRV_UNREADABLE: return "the segment cannot be read; readers must be in its group";
    case FRAMESRV_INVALID: return "an argument is wrong";
    case FRAMESRV_FORKED: return "the reader was made before fork(2): make readers in the child";
    case FRAMESRV_SYSTEM: return "the system refused memory, a file or a wait";
    default: return "there is no such code";
    }
}

/* Truncation. */

static void framesrv_on_bus_error_(int number, siginfo_t *info, void *context) {
    if (info->si_code == BUS_ADRERR) {
        uintptr_t address = (uintptr_t)info->si_addr;
        struct framesrv_guard_ *guard = __atomic_load_n(&framesrv_guards_, __ATOMIC_ACQUIRE);
        for (; guard != NULL; guard = guard->next) {
            uintptr_t begin = __atomic_load_n(&guard->begin, __ATOMIC_SEQ_CST);
            uintptr_t end = __atomic_load_n(&guard->end, __ATOMIC_SEQ_CST);
            /* of another mapping meanwhile, if it begins elsewhere now */
            if (begin <= address && address < end && begin == __atomic_load_n(&guard->begin, __ATOMIC_SEQ_CST)) {
                uintptr_t page = address - address % framesrv_page_size_;
                int saved = errno;
                __atomic_store_n(&guard->cut, 1, __ATOMIC_SEQ_CST); /* first: another thread may read the zeros */
                if (mmap((void *)page, end - page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) ==
                    (void *)page) {
                    errno = saved;
                    return;
                }
            }
        }
    }
    if (framesrv_former_.sa_flags & SA_SIGINFO)
        framesrv_former_.sa_sigaction(number, info, context);
    else if (framesrv_former_.sa_handler != SIG_DFL && framesrv_former_.sa_handler != SIG_IGN)
        framesrv_former_.sa_handler(number);
    else
        sigaction(SIGBUS, &framesrv_former_, NULL); /* the touch is tried again, and kills */
}

/* NULL: no memory, or no handler. */
static struct framesrv_guard_ *framesrv_guard_new_(void *memory, size_t nbytes) {
    struct framesrv_guard_ *guard = NULL;
    pthread_mutex_lock(&framesrv_guards_mutex_);
    if (!framesrv_page_size_) {
        struct sigaction action;
        memset(&action, 0, sizeof action);
        action.sa_sigaction = framesrv_on_bus_error_;
        action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER | SA_RESTART;
        framesrv_page_size_ = (uintptr_t)sysconf(_SC_PAGESIZE);
        if (sigaction(SIGBUS, NULL, &framesrv_former_) != 0 || sigaction(SIGBUS, &action, NULL) != 0)
            framesrv_page_size_ = 0;
    }
    if (framesrv_page_size_) {
        for (guard = framesrv_guards_; guard != NULL && guard->taken;)
            guard = guard->next;
        if (guard == NULL && (guard = (struct framesrv_guard_ *)calloc(1, sizeof *guard)) != NULL) {
            guard->begin = UINTPTR_MAX;
            guard->next = framesrv_guards_;
            __atomic_store_n(&framesrv_guards_, guard, __ATOMIC_RELEASE);
        }
    }
    if (guard != NULL) {
        guard->taken = 1;
        __atomic_store_n(&guard->cut, 0, __ATOMIC_SEQ_CST);
        __atomic_store_n(&guard->end, (uintptr_t)memory + nbytes, __ATOMIC_SEQ_CST);
        __atomic_store_n(&guard->begin, (uintptr_t)memory, __ATOMIC_SEQ_CST);
    }
    pthread_mutex_unlock(&framesrv_guards_mutex_);
    return guard;
}

static void framesrv_guard_forget_(struct framesrv_guard_ *guard) {
    pthread_mutex_lock(&framesrv_guards_mutex_);
    __atomic_store_n(&guard->begin, UINTPTR_MAX, __ATOMIC_SEQ_CST);
    guard->taken = 0;
    pthread_mutex_unlock(&framesrv_guards_mutex_);
}

static int framesrv_cut_(const struct framesrv_attachment_ *attachment) {
    return __atomic_load_n(&attachment->guard->cut, __ATOMIC_SEQ_CST);
}

/* Locks: open file descriptions', of one byte each. 1: done, 0: somebody else holds one, -1: refused. */

static int framesrv_lock_(int fd, int command, short kind, off_t byte, short *found) {
    struct flock lock;
    memset(&lock, 0, sizeof lock); /* l_pid must be 0 */
    lock.l_type = kind;
    lock.l_whence = SEEK_SET;
    lock.l_start = byte;
    lock.l_len = 1;
    if (fcntl(fd, command, &lock) != 0)
        return errno == EAGAIN || errno == EACCES ? 0 : -1;
    if (found != NULL)
        *found = lock.l_type;
    return 1;
}

static int framesrv_has_writer_(const struct framesrv_attachment_ *attachment) {
    short found = F_UNLCK;
    framesrv_lock_(attachment->fd, F_OFD_GETLK, F_RDLCK, FRAMESRV_WRITER_BYTE_, &found);
    return found != F_UNLCK;
}

/* Owners: /dev/shm is writable by everybody, so a file's name tells nothing; its owner does. */

static void framesrv_sha256_(const char *text, char hex[65]) {
    static const uint32_t k[64] = {
        0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
        0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
        0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
        0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
        0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
        0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
        0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
        0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};
    uint32_t h[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    uint8_t bytes[128] = {0}; /* a code has at most 64 */
    size_t length = strlen(text), blocks = length < 56 ? 1 : 2, i, block;
    memcpy(bytes, text, length);
    bytes[length] = 0x80;
    bytes[64 * blocks - 2] = (uint8_t)(length * 8 >> 8);
    bytes[64 * blocks - 1] = (uint8_t)(length * 8);
#define FRAMESRV_TURN_(x, n) ((x) >> (n) | (x) << (32 - (n)))
    for (block = 0; block < blocks; block++) {
        uint32_t w[64], s[8];
        for (i = 0; i < 64; i++) {
            const uint8_t *b = bytes + 64 * block + 4 * i;
            if (i < 16) {
                w[i] = (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
            } else {
                uint32_t x = w[i - 15], y = w[i - 2];
                w[i] = w[i - 16] + (FRAMESRV_TURN_(x, 7) ^ FRAMESRV_TURN_(x, 18) ^ x >> 3) + w[i - 7] +
                       (FRAMESRV_TURN_(y, 17) ^ FRAMESRV_TURN_(y, 19) ^ y >> 10);
            }
        }
        memcpy(s, h, sizeof s);
        for (i = 0; i < 64; i++) {
            uint32_t one = s[7] + (FRAMESRV_TURN_(s[4], 6) ^ FRAMESRV_TURN_(s[4], 11) ^ FRAMESRV_TURN_(s[4], 25)) +
                           ((s[4] & s[5]) ^ (~s[4] & s[6])) + k[i] + w[i];
            uint32_t two = (FRAMESRV_TURN_(s[0], 2) ^ FRAMESRV_TURN_(s[0], 13) ^ FRAMESRV_TURN_(s[0], 22)) +
                           ((s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]));
            memmove(s + 1, s, 7 * sizeof *s);
            s[4] += one;
            s[0] = one + two;
        }
        for (i = 0; i < 8; i++)
            h[i] += s[i];
    }
#undef FRAMESRV_TURN_
    for (i = 0; i < 8; i++)
        snprintf(hex + 8 * i, 9, "%08x", h[i]);
}

static const char framesrv_letters_[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-.";

/* The user that a camera's decoder runs as under systemd. */
static void framesrv_service_user_(const char *code, char user[FRAMESRV_LONGEST_NAME_ + 1]) {
    char name[sizeof "framesrv-" + 64];
    snprintf(name, sizeof name, "framesrv-%s", code);
    if (strcmp(code, "snapd") == 0 || strlen(name) > FRAMESRV_LONGEST_NAME_ || strchr(code, '.') != NULL)
        framesrv_sha256_(code, name + sizeof "framesrv-" - 1);
    snprintf(user, FRAMESRV_LONGEST_NAME_ + 1, "%.*s", FRAMESRV_LONGEST_NAME_, name);
}

/* The name of a user; its number, as text, where it has none. */
static void framesrv_user_name_(uid_t uid, char *name, size_t size) {
    struct passwd entry, *found = NULL;
    char buffer[4096];
    if (getpwuid_r(uid, &entry, buffer, sizeof buffer, &found) == 0 && found != NULL)
        snprintf(name, size, "%s", found->pw_name);
    else
        snprintf(name, size, "%u", (unsigned)uid);
}

static int framesrv_trust_(const framesrv_reader *reader, uid_t uid, framesrv_error *error) {
    char name[256], expected[256];
    if (uid == 0 || (reader->has_owner ? uid == reader->owner : uid == geteuid()))
        return FRAMESRV_OK;
    framesrv_user_name_(uid, name, sizeof name);
    if (reader->has_owner) {
        framesrv_user_name_(reader->owner, expected, sizeof expected);
        return framesrv_fail_(error, FRAMESRV_OWNER, "%s is not read: it belongs to %s, not to %s", reader->path, name,
                              expected);
    }
    framesrv_service_user_(reader->code, expected);
    if (strcmp(name, expected) == 0)
        return FRAMESRV_OK;
    return framesrv_fail_(error, FRAMESRV_OWNER,
                          "%s is not read: it belongs to %s, who is neither this user nor %s; if its decoder runs as "
                          "%s, say so: framesrv_open(..., owner)",
                          reader->path, name, expected, name);
}

/* Attaching. */

static uint64_t framesrv_up_(uint64_t number, uint64_t step) { return (number + step - 1) / step * step; }

/* Sets the planes and slot size that frames of this form have. */
static void framesrv_geometry_(struct framesrv_attachment_ *form) {
    struct framesrv_plane_ *planes = form->planes, *last;
    uint64_t stride, tall = framesrv_up_(form->height, 4);
    memset(planes, 0, sizeof form->planes);
    if (form->pixel_format == FRAMESRV_BGR24) {
        form->plane_count = 1;
        planes[0].stride = (uint32_t)framesrv_up_((uint64_t)form->width * 3, 64);
        planes[0].rows = form->height;
        planes[0].used = form->width * 3;
        last = &planes[0];
    } else {
        form->plane_count = 3;
        stride = framesrv_up_(form->width, 128);
        planes[0].stride = (uint32_t)stride;
        planes[0].rows = form->height;
        planes[0].used = form->width;
        planes[1].offset = stride * tall;
        planes[1].stride = (uint32_t)(stride / 2);
        planes[1].rows = (form->height + 1) / 2;
        planes[1].used = (form->width + 1) / 2;
        planes[2] = planes[1];
        planes[2].offset += stride / 2 * (tall / 2);
        last = &planes[2];
        tall /= 2;
    }
    form->slot_size = framesrv_up_(last->offset + last->stride * tall, FRAMESRV_PAGE_);
    form->nbytes = FRAMESRV_PAGE_ + form->slots * form->slot_size;
}

/* Sets the geometry that a header of a file of `space` bytes tells. */
static int framesrv_read_geometry_(struct framesrv_attachment_ *form, const struct framesrv_header_ *header,
                                   uint64_t space, const char *path, framesrv_error *error) {
    uint32_t least = header->slots ? 1 : 0;
    if (header->magic != FRAMESRV_MAGIC_)
        return framesrv_fail_(error, FRAMESRV_FORMAT, "%s: not a framesrv segment: its magic number is wrong", path);
    if (header->version < FRAMESRV_OLDEST_ || header->version > FRAMESRV_VERSION_)
        return framesrv_fail_(error, FRAMESRV_FORMAT,
                              "%s: its layout is version %u, this framesrv.h reads version %u: build the program with "
                              "the framesrv that runs",
                              path, header->version, FRAMESRV_VERSION_);
    if (header->pixel_format != FRAMESRV_YUV420P && header->pixel_format != FRAMESRV_BGR24)
        return framesrv_fail_(error, FRAMESRV_FORMAT, "%s: damaged: pixel format %u", path, header->pixel_format);
    if (header->slots == 1 || header->slots > FRAMESRV_MAX_SLOTS_)
        return framesrv_fail_(error, FRAMESRV_FORMAT, "%s: damaged: %u slots: expected 2 to %u", path, header->slots,
                              FRAMESRV_MAX_SLOTS_);
    if (header->width < least || header->width > FRAMESRV_MAX_SIDE_ || header->height < least ||
        header->height > FRAMESRV_MAX_SIDE_)
        return framesrv_fail_(error, FRAMESRV_FORMAT, "%s: damaged: %ux%u pixels: expected %u to %u each way", path,
                              header->width, header->height, least, FRAMESRV_MAX_SIDE_);
    form->slots = header->slots;
    form->width = header->width;
    form->height = header->height;
    form->pixel_format = header->pixel_format;
    framesrv_geometry_(form);
    if (header->slot_offset != FRAMESRV_PAGE_ || header->slot_size != form->slot_size ||
        memcmp(header->planes, form->planes, sizeof form->planes) != 0)
        return framesrv_fail_(error, FRAMESRV_FORMAT, "%s: damaged: its planes are not those of %ux%u", path,
                              form->width, form->height);
    if (space < form->nbytes)
        return framesrv_fail_(error, FRAMESRV_FORMAT, "%s: damaged: %llu bytes long, %llu expected", path,
                              (unsigned long long)space, (unsigned long long)form->nbytes);
    return FRAMESRV_OK;
}

static void framesrv_drop_(struct framesrv_attachment_ *attachment) {
    if (__atomic_sub_fetch(&attachment->references, 1, __ATOMIC_ACQ_REL) != 0)
        return;
    if (attachment->header != NULL) {
        framesrv_guard_forget_(attachment->guard); /* first: the address may be another mapping's at once */
        munmap(attachment->header, attachment->nbytes);
    }
    close(attachment->fd);
    pthread_mutex_destroy(&attachment->mutex);
    free(attachment);
}

static void framesrv_refer_(struct framesrv_attachment_ *attachment) {
    __atomic_add_fetch(&attachment->references, 1, __ATOMIC_RELAXED);
}

/* Maps the open segment. FRAMESRV_ABSENT: it is still being made. */
static int framesrv_map_(const framesrv_reader *reader, struct framesrv_attachment_ *attachment,
                         framesrv_error *error) {
    const char *path = reader->path;
    struct framesrv_header_ header;
    struct stat status;
    uint64_t space;
    void *memory;
    int code;
    memset(&header, 0, sizeof header);
    if (fstat(attachment->fd, &status) != 0)
        return framesrv_fail_(error, FRAMESRV_UNREADABLE, "%s cannot be read: %s", path, strerror(errno));
    if ((code = framesrv_trust_(reader, status.st_uid, error)) != FRAMESRV_OK)
        return code;
    if (!S_ISREG(status.st_mode))
        return framesrv_fail_(error, FRAMESRV_FORMAT, "%s: not a framesrv segment: no regular file", path);
    if (status.st_size < FRAMESRV_PAGE_ || pread(attachment->fd, &header, sizeof header, 0) < 8 || header.magic == 0)
        return FRAMESRV_ABSENT;
    space = (uint64_t)framesrv_min_(status.st_size, status.st_blocks * 512); /* what is reserved */
    if ((code = framesrv_read_geometry_(attachment, &header, space, path, error)) != FRAMESRV_OK)
        return code;
    memory = mmap(NULL, attachment->nbytes, PROT_READ, MAP_SHARED, attachment->fd, 0);
    if (memory == MAP_FAILED)
        return framesrv_fail_(error, FRAMESRV_UNREADABLE, "%s cannot be mapped: %s", path, strerror(errno));
    attachment->guard = framesrv_guard_new_(memory, attachment->nbytes);
    if (attachment->guard == NULL) {
        munmap(memory, attachment->nbytes);
        return framesrv_fail_(error, FRAMESRV_SYSTEM, "%s: no memory, or no handler of SIGBUS", path);
    }
    attachment->header = (struct framesrv_header_ *)memory;
    return FRAMESRV_OK;
}

/* The segment under its name; NULL while there is none. */
static int framesrv_attach_(const framesrv_reader *reader, struct framesrv_attachment_ **found,
                            framesrv_error *error) {
    struct framesrv_attachment_ *attachment;
    int code, fd = open(reader->path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    *found = NULL;
    if (fd < 0) {
        if (errno == ENOENT)
            return FRAMESRV_OK;
        return framesrv_fail_(error, FRAMESRV_UNREADABLE,
                              "%s cannot be read: %s; readers must be in the segment's group", reader->path,
                              strerror(errno));
    }
    attachment = (struct framesrv_attachment_ *)calloc(1, sizeof *attachment);
    if (attachment == NULL) {
        close(fd);
        return framesrv_fail_(error, FRAMESRV_SYSTEM, "camera %s: no memory", reader->code);
    }
    attachment->fd = fd;
    attachment->pid = reader->pid;
    attachment->references = 1;
    pthread_mutex_init(&attachment->mutex, NULL);
    code = framesrv_map_(reader, attachment, error);
    /* its writer may be between marking it and removing its name */
    if (code == FRAMESRV_OK && !framesrv_load_(&attachment->header->retired))
        *found = attachment;
    else
        framesrv_drop_(attachment);
    return code == FRAMESRV_ABSENT ? FRAMESRV_OK : code;
}

/* The camera's segment, referred to; NULL while there is none. */
static int framesrv_attached_(framesrv_reader *reader, struct framesrv_attachment_ **found, framesrv_error *error) {
    int code = FRAMESRV_OK;
    *found = NULL;
    if (getpid() != reader->pid)
        return framesrv_fail_(error, FRAMESRV_FORKED, "camera %s: %s", reader->code,
                              framesrv_meaning(FRAMESRV_FORKED));
    pthread_mutex_lock(&reader->mutex);
    if (reader->attachment != NULL &&
        (framesrv_load_(&reader->attachment->header->retired) || framesrv_cut_(reader->attachment))) {
        framesrv_drop_(reader->attachment);
        reader->attachment = NULL;
    }
    if (reader->attachment == NULL) {
        code = framesrv_attach_(reader, &reader->attachment, error);
        if (reader->attachment != NULL)
            reader->attachment->number = ++reader->attachments;
    }
    if (reader->attachment != NULL) {
        framesrv_refer_(reader->attachment);
        *found = reader->attachment;
    }
    pthread_mutex_unlock(&reader->mutex);
    return code;
}

/* Detaches from a segment that has lost its name without being retired. */
static void framesrv_look_for_another_(framesrv_reader *reader, struct framesrv_attachment_ *attachment) {
    struct stat ours, there;
    if (fstat(attachment->fd, &ours) == 0 && lstat(reader->path, &there) == 0 && ours.st_dev == there.st_dev &&
        ours.st_ino == there.st_ino)
        return;
    pthread_mutex_lock(&reader->mutex);
    if (reader->attachment == attachment) {
        framesrv_drop_(attachment);
        reader->attachment = NULL;
    }
    pthread_mutex_unlock(&reader->mutex);
}

/* Pins. */

/* As framesrv_lock_. */
static int framesrv_pin_(struct framesrv_attachment_ *attachment, uint32_t slot) {
    int pinned = 1;
    pthread_mutex_lock(&attachment->mutex);
    if (attachment->pins[slot] == 0)
        pinned = framesrv_lock_(attachment->fd, F_OFD_SETLK, F_RDLCK, FRAMESRV_SLOT_BYTE_ + (off_t)slot, NULL);
    if (pinned > 0) {
        attachment->pins[slot]++;
        framesrv_refer_(attachment);
    }
    pthread_mutex_unlock(&attachment->mutex);
    return pinned;
}

static void framesrv_unpin_(struct framesrv_attachment_ *attachment, uint32_t slot) {
    if (attachment->pid != getpid()) /* the lock is the parent's as well */
        return;
    pthread_mutex_lock(&attachment->mutex);
    if (--attachment->pins[slot] == 0)
        framesrv_lock_(attachment->fd, F_OFD_SETLK, F_UNLCK, FRAMESRV_SLOT_BYTE_ + (off_t)slot, NULL);
    pthread_mutex_unlock(&attachment->mutex);
    framesrv_drop_(attachment);
}

/* Asks the decoder of `attachment` for fresher frames, and that of `*asked` no more; either may be NULL. */
static void framesrv_ask_(struct framesrv_attachment_ **asked, struct framesrv_attachment_ *attachment) {
    struct framesrv_attachment_ *former = *asked;
    if (former == attachment)
        return;
    if (attachment != NULL) {
        pthread_mutex_lock(&attachment->mutex);
        if (attachment->asking++ == 0)
            framesrv_lock_(attachment->fd, F_OFD_SETLK, F_RDLCK, FRAMESRV_DEMAND_BYTE_, NULL);
        framesrv_refer_(attachment);
        pthread_mutex_unlock(&attachment->mutex);
    }
    if (former != NULL && former->pid == getpid()) {
        pthread_mutex_lock(&former->mutex);
        if (--former->asking == 0)
            framesrv_lock_(former->fd, F_OFD_SETLK, F_UNLCK, FRAMESRV_DEMAND_BYTE_, NULL);
        pthread_mutex_unlock(&former->mutex);
        framesrv_drop_(former);
    }
    *asked = attachment;
}

int framesrv_check(const framesrv_frame *frame) {
    const struct framesrv_attachment_ *attachment = (const struct framesrv_attachment_ *)frame->pin;
    return attachment != NULL && framesrv_cut_(attachment) ? FRAMESRV_GONE : FRAMESRV_OK;
}

int framesrv_release(framesrv_frame *frame) {
    struct framesrv_attachment_ *attachment = (struct framesrv_attachment_ *)frame->pin;
    int code = framesrv_check(frame);
    frame->pin = NULL;
    if (attachment != NULL)
        framesrv_unpin_(attachment, frame->slot);
    return code;
}

double framesrv_age(const framesrv_frame *frame) { return (double)(framesrv_now_() - (int64_t)frame->arrived) / 1e9; }

/* The newest frame, pinned; FRAMESRV_STALE if there is none yet or the writer is filling its slot. */
static int framesrv_newest_(struct framesrv_attachment_ *attachment, framesrv_frame *frame, const char *path,
                            framesrv_error *error) {
    const struct framesrv_header_ *header = attachment->header;
    const struct framesrv_record_ *record;
    const uint8_t *memory;
    uint32_t slot, i;
    int pinned;
    for (;;) {
        slot = framesrv_load_(&header->newest);
        if (slot == FRAMESRV_NO_SLOT_ || framesrv_load_(&header->retired))
            return FRAMESRV_STALE;
        if (slot >= attachment->slots)
            return framesrv_fail_(error, FRAMESRV_FORMAT, "%s: damaged: its newest slot is %u of %u", path, slot,
                                  attachment->slots);
        pinned = framesrv_pin_(attachment, slot);
        if (pinned < 0)
            return framesrv_fail_(error, FRAMESRV_SYSTEM, "%s: fcntl(2): %s", path, strerror(errno));
        if (pinned == 0) {
            if (framesrv_load_(&header->newest) == slot)
                return FRAMESRV_STALE;
            continue;
        }
        if (framesrv_load_(&header->newest) == slot && !framesrv_load_(&header->retired))
            break;
        framesrv_unpin_(attachment, slot);
    }
    record = &header->records[slot];
    memory = (const uint8_t *)header + FRAMESRV_PAGE_ + slot * attachment->slot_size;
    memset(frame, 0, sizeof *frame);
    for (i = 0; i < attachment->plane_count; i++) {
        frame->planes[i].data = memory + attachment->planes[i].offset;
        frame->planes[i].stride = attachment->planes[i].stride;
        frame->planes[i].rows = attachment->planes[i].rows;
        frame->planes[i].used = attachment->planes[i].used;
    }
    frame->width = attachment->width;
    frame->height = attachment->height;
    frame->pixel_format = attachment->pixel_format;
    frame->matrix = record->matrix;
    frame->range = record->range == FRAMESRV_FULL_RANGE ? FRAMESRV_FULL_RANGE : FRAMESRV_LIMITED_RANGE;
    frame->key_frame = record->key_frame != 0;
    frame->clock = record->clock;
    frame->aspect_width = record->aspect_width && record->aspect_height ? record->aspect_width : 1;
    frame->aspect_height = record->aspect_width && record->aspect_height ? record->aspect_height : 1;
    frame->rotated = record->rotated;
    frame->seq = record->seq;
    frame->pts = record->pts;
    frame->captured = record->captured;
    frame->arrived = record->arrived;
    frame->pin = attachment;
    frame->slot = slot;
    if (framesrv_check(frame) != FRAMESRV_OK) { /* what the header said may have been zeros */
        framesrv_release(frame);
        return framesrv_fail_(error, FRAMESRV_FORMAT, "%s: damaged: it was cut short while it was read", path);
    }
    if (frame->seq == 0) {
        framesrv_release(frame);
        return FRAMESRV_STALE;
    }
    if ((frame->matrix != FRAMESRV_BT709 && frame->matrix != FRAMESRV_BT601 && frame->matrix != FRAMESRV_BT2020) ||
        frame->clock > FRAMESRV_CLOCK_CAMERA) {
        framesrv_release(frame);
        return framesrv_fail_(error, FRAMESRV_FORMAT, "%s: damaged: frame %llu has matrix %u, clock %u", path,
                              (unsigned long long)frame->seq, frame->matrix, frame->clock);
    }
    return FRAMESRV_OK;
}

/* Waiting. */

/* Seconds for which a frame is fresh to whoever asks for one of at most that age: of a slow camera until the next is
 * overdue; not of one that is slow by its policy. */
static double framesrv_fresh_for_(const struct framesrv_header_ *header, double max_age) {
    uint64_t interval = __atomic_load_n(&header->interval, __ATOMIC_RELAXED);
    double due = FRAMESRV_LATE_ * (double)interval / 1e9;
    if (interval <= (uint64_t)FRAMESRV_SLOW_ || max_age * 1e9 < (double)FRAMESRV_SLOW_ || due < max_age ||
        strncmp(header->decode_policy, "fps:", 4) == 0 || strncmp(header->decode_policy, "keyframes", 9) == 0)
        return max_age;
    return due;
}

/* Why there is no frame: fills the error. */
static int framesrv_unavailable_(const framesrv_reader *reader, struct framesrv_attachment_ *attachment, double age,
                                 framesrv_error *error) {
    const struct framesrv_header_ *header;
    char because[sizeof header->error + 1], newest[64] = "";
    int code = FRAMESRV_STALE;
    uint64_t activity, interval;
    if (attachment == NULL)
        return framesrv_fail_(error, FRAMESRV_ABSENT,
                              "camera %s: there is no %s: its decoder was never started, or has been stopped",
                              reader->code, reader->path);
    header = attachment->header;
    activity = __atomic_load_n(&header->activity, __ATOMIC_RELAXED);
    interval = __atomic_load_n(&header->interval, __ATOMIC_RELAXED);
    if (!framesrv_has_writer_(attachment))
        code = FRAMESRV_DOWN;
    else if (framesrv_load_(&header->state) != FRAMESRV_LIVE_)
        code = FRAMESRV_CONNECTING;
    else {
        double silence = (double)framesrv_now_() - (double)activity;
        if (silence > (double)FRAMESRV_STALL_ && silence > 3 * (double)interval)
            code = FRAMESRV_STALLED;
    }
    memcpy(because, header->error, sizeof header->error);
    because[sizeof header->error] = 0;
    if (age >= 0)
        snprintf(newest, sizeof newest, "; the newest frame is %.1f s old", age);
    framesrv_fail_(error, code, "camera %s: %s%s%s%s%s", reader->code, framesrv_meaning(code), *because ? " (" : "",
                   because, *because ? ")" : "", newest);
    if (error != NULL) {
        memcpy(error->cause, header->cause, sizeof header->cause);
        error->age = age;
    }
    return code;
}

/* Sleeps until something is new since `sequence`; 0 if the time passed, -1 if the system refused. */
static int framesrv_sleep_(struct framesrv_attachment_ *attachment, uint32_t sequence, int64_t nanoseconds) {
    struct timespec limit;
    uint32_t *word = &attachment->header->sequence;
    if (framesrv_load_(&attachment->header->retired)) /* perhaps before `sequence` was read: nobody would wake us */
        return 1;
    limit.tv_sec = (time_t)(nanoseconds / 1000000000);
    limit.tv_nsec = (long)(nanoseconds % 1000000000);
    if (syscall(SYS_futex, word, FUTEX_WAIT, sequence, &limit, NULL, 0) == 0 || errno == EAGAIN || errno == EINTR)
        return 1;
    if (errno == EFAULT) { /* the page is gone: touched, it marks the mapping as cut */
        framesrv_load_(word);
        return framesrv_cut_(attachment) ? 1 : -1;
    }
    return errno == ETIMEDOUT ? 0 : -1;
}

/* Sleeps until something changes in the directory of segments, or for some time; `watch` is an inotify, or negative
 * where the user has none left. */
static void framesrv_watch_(int watch, int64_t nanoseconds) {
    struct pollfd waited;
    char events[4096];
    waited.fd = watch; /* poll(2) passes over a negative one, and waits */
    waited.events = POLLIN;
    waited.revents = 0;
    if (poll(&waited, 1, (int)((nanoseconds + 999999) / 1000000)) > 0)
        while (read(watch, events, sizeof events) > 0) {
        }
}

static int framesrv_watch_new_(void) {
    int watch = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    if (watch >= 0 && inotify_add_watch(watch, "/dev/shm", IN_CREATE | IN_MOVED_TO | IN_ATTRIB | IN_MODIFY) < 0) {
        close(watch);
        watch = -1;
    }
    return watch;
}

/* A frame fresh enough and, if it is of the attachment numbered `*origin`, numbered above `after`. */
static int framesrv_next_(framesrv_reader *reader, double max_age, double timeout, uint64_t *origin, uint64_t after,
                          struct framesrv_attachment_ **asked, framesrv_frame *frame, framesrv_error *error) {
    struct framesrv_attachment_ *attachment;
    int64_t began = framesrv_now_(), remaining;
    double age = -1;
    int code, watch = -1, watching = 0;
    memset(frame, 0, sizeof *frame);
    if (max_age != max_age || timeout != timeout)
        return framesrv_fail_(error, FRAMESRV_INVALID, "camera %s: not a number of seconds", reader->code);
    timeout = timeout > 1e9 ? 1e9 : timeout > 0 ? timeout : 0;
    for (;;) {
        uint32_t sequence;
        code = framesrv_attached_(reader, &attachment, error);
        if (code != FRAMESRV_OK)
            break;
        remaining = began + (int64_t)(timeout * 1e9) - framesrv_now_();
        if (attachment == NULL) {
            if (remaining <= 0) {
                code = framesrv_unavailable_(reader, NULL, -1, error);
                break;
            }
            if (watching)
                framesrv_watch_(watch, framesrv_min_(remaining, FRAMESRV_LIVENESS_));
            else
                watch = framesrv_watch_new_();
            watching = 1;
            continue;
        }
        sequence = framesrv_load_(&attachment->header->sequence);
        code = framesrv_newest_(attachment, frame, reader->path, error);
        if (code == FRAMESRV_OK) {
            double limit = framesrv_fresh_for_(attachment->header, max_age);
            int seen = origin != NULL && attachment->number == *origin && frame->seq <= after;
            age = framesrv_age(frame);
            if (!seen && (max_age < 0 || age <= limit || (int64_t)frame->arrived > began)) {
                if (origin != NULL)
                    *origin = attachment->number;
                framesrv_drop_(attachment);
                break;
            }
            framesrv_release(frame);
        } else if (code != FRAMESRV_STALE) {
            framesrv_drop_(attachment);
            break;
        }
        if (remaining <= 0) {
            code = framesrv_unavailable_(reader, attachment, age, error);
            framesrv_drop_(attachment);
            break;
        }
        framesrv_ask_(asked, attachment);
        code = framesrv_sleep_(attachment, sequence, framesrv_min_(remaining, FRAMESRV_LIVENESS_));
        if (code < 0) {
            code = framesrv_fail_(error, FRAMESRV_SYSTEM, "camera %s: futex(2): %s", reader->code, strerror(errno));
            framesrv_drop_(attachment);
            break;
        }
        if (code == 0)
            framesrv_look_for_another_(reader, attachment);
        framesrv_drop_(attachment);
    }
    if (watch >= 0)
        close(watch);
    return code;
}

/* Readers. */

/* The number of a user that is given by name or number. */
static int framesrv_named_user_(const char *user, uid_t *uid) {
    struct passwd entry, *found = NULL;
    char buffer[4096];
    if (user[strspn(user, "0123456789")] == 0) {
        unsigned long number = strtoul(user, NULL, 10);
        *uid = (uid_t)number;
        return number < UINT32_MAX;
    }
    if (getpwnam_r(user, &entry, buffer, sizeof buffer, &found) != 0 || found == NULL)
        return 0;
    *uid = found->pw_uid;
    return 1;
}

framesrv_reader *framesrv_open(const char *code, const char *prefix, const char *owner, framesrv_error *error) {
    framesrv_reader *reader;
    prefix = prefix != NULL ? prefix : "framesrv";
    if (code == NULL || *code == 0 || strlen(code) > 64 || code[strspn(code, framesrv_letters_)] != 0) {
        framesrv_fail_(error, FRAMESRV_INVALID, "camera code '%.80s': expected 1 to 64 of A-Z a-z 0-9 _ . -",
                       code != NULL ? code : "");
        return NULL;
    }
    if (*prefix == 0 || strlen(prefix) > 64 || prefix[strspn(prefix, framesrv_letters_)] != 0 ||
        strchr(prefix, '.') != NULL) {
        framesrv_fail_(error, FRAMESRV_INVALID, "prefix '%.80s': expected 1 to 64 of A-Z a-z 0-9 _ -", prefix);
        return NULL;
    }
    reader = (framesrv_reader *)calloc(1, sizeof *reader);
    if (reader == NULL) {
        framesrv_fail_(error, FRAMESRV_SYSTEM, "camera %s: no memory", code);
        return NULL;
    }
    if (owner != NULL && *owner != 0) {
        reader->has_owner = 1;
        if (!framesrv_named_user_(owner, &reader->owner)) {
            framesrv_fail_(error, FRAMESRV_INVALID, "there is no user '%.80s' on this host", owner);
            free(reader);
            return NULL;
        }
    }
    snprintf(reader->code, sizeof reader->code, "%s", code);
    snprintf(reader->path, sizeof reader->path, "/dev/shm/%s.%s", prefix, code);
    reader->pid = getpid();
    pthread_mutex_init(&reader->mutex, NULL);
    return reader;
}

void framesrv_close(framesrv_reader *reader) {
    if (reader == NULL)
        return;
    if (reader->attachment != NULL && reader->pid == getpid())
        framesrv_drop_(reader->attachment);
    pthread_mutex_destroy(&reader->mutex);
    free(reader);
}

int framesrv_latest(framesrv_reader *reader, double max_age, double timeout, framesrv_frame *frame,
                    framesrv_error *error) {
    struct framesrv_attachment_ *asked = NULL;
    int code = framesrv_next_(reader, max_age, timeout, NULL, 0, &asked, frame, error);
    framesrv_ask_(&asked, NULL);
    return code;
}

framesrv_frames *framesrv_frames_begin(framesrv_reader *reader, framesrv_error *error) {
    framesrv_frames *frames = (framesrv_frames *)calloc(1, sizeof *frames);
    struct framesrv_attachment_ *attachment = NULL;
    int code;
    if (frames == NULL) {
        framesrv_fail_(error, FRAMESRV_SYSTEM, "camera %s: no memory", reader->code);
        return NULL;
    }
    frames->reader = reader;
    code = framesrv_attached_(reader, &attachment, error);
    if (attachment != NULL) {
        framesrv_frame frame;
        code = framesrv_newest_(attachment, &frame, reader->path, error);
        frames->origin = attachment->number;
        if (code == FRAMESRV_OK) {
            frames->last = frame.seq;
            framesrv_release(&frame);
        }
        framesrv_drop_(attachment);
    }
    if (code == FRAMESRV_OK || code == FRAMESRV_STALE)
        return frames;
    free(frames);
    return NULL;
}

int framesrv_frames_next(framesrv_frames *frames, double timeout, framesrv_frame *frame, framesrv_error *error) {
    int code = framesrv_next_(frames->reader, FRAMESRV_ANY_AGE, timeout, &frames->origin, frames->last,
                              &frames->asked, frame, error);
    if (code == FRAMESRV_OK)
        frames->last = frame->seq;
    return code;
}

void framesrv_frames_end(framesrv_frames *frames) {
    if (frames == NULL)
        return;
    framesrv_ask_(&frames->asked, NULL);
    free(frames);
}

#ifdef __cplusplus
}
#endif
#endif /* FRAMESRV_IMPLEMENTATION */
