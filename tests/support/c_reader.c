/* A reader in C for tests: what framesrv.h sees of the pictures that segment_programs.py paints.
 *
 *   c_reader look PREFIX CODE FRAMES      four threads, one reader: until all have taken so many frames
 *   c_reader follow PREFIX CODE SOURCE    two threads, one reader: until a frame of that writer has come
 *   c_reader one PREFIX CODE [OWNER]      one frame, or the error; it goes on until it is told to end
 *   c_reader stamp PREFIX CODE            what the newest frame carries besides its pixels
 *   c_reader fresh PREFIX CODE MS         a frame of at most that age that is there already, or the error
 *   c_reader hold PREFIX CODE             pins a frame, says so, reads it again when told; takes another, until told to end
 *   c_reader wait PREFIX CODE [SECONDS]   says that it waits, and for what it waited; it goes on until it is told to end
 *   c_reader fork PREFIX CODE             what a child may do
 *   c_reader touch PREFIX CODE            attaches, then touches what is gone of a mapping of its own
 *   c_reader user CODE                    the user that its decoder runs as
 */
#define FRAMESRV_IMPLEMENTATION
#include "framesrv.h"

#include <sys/wait.h>

static const char *prefix, *code;
static uint64_t goal;
static framesrv_reader *reader;
static int done; /* set by the thread that has seen what it waits for */

struct seen {
    int each; /* by framesrv_frames, not framesrv_latest */
    unsigned long frames, torn, disordered, sources, errors;
};

static int shows(const framesrv_frame *frame) {
    uint32_t plane, row, at;
    if (frame->planes[2].data == NULL || frame->pts == FRAMESRV_NO_PTS)
        return 0;
    for (plane = 0; plane < 3; plane++) {
        uint64_t found, expected = (uint64_t)frame->pts * 3 + plane;
        const framesrv_plane *its = &frame->planes[plane];
        for (row = 0; row < its->rows; row++)
            for (at = 0; at + 8 <= its->used; at += 8) {
                memcpy(&found, its->data + (size_t)row * its->stride + at, 8);
                if (found != expected)
                    return 0;
            }
    }
    return 1;
}

/* Takes a frame and notes what it is; its number, 0 for none. */
static uint64_t take(framesrv_frames *frames, struct seen *seen, double timeout, uint64_t *last, int64_t *pts) {
    framesrv_frame frame;
    framesrv_error error;
    uint64_t seq;
    int whole;
    int result = frames != NULL ? framesrv_frames_next(frames, timeout, &frame, &error)
                                : framesrv_latest(reader, FRAMESRV_ANY_AGE, timeout, &frame, &error);
    if (result > FRAMESRV_STALE) {
        seen->errors++;
        fprintf(stderr, "%d %s\n", error.code, error.text);
    }
    if (result != FRAMESRV_OK)
        return 0;
    whole = shows(&frame);
    if (frame.seq % 16 == 0)
        usleep(200); /* as if it worked on it */
    whole = whole && shows(&frame);
    seq = frame.seq;
    *pts = frame.pts;
    whole = framesrv_release(&frame) == FRAMESRV_OK && whole;
    seen->frames++;
    seen->torn += !whole;
    seen->disordered += seq < *last + (seen->each ? 1 : 0);
    *last = seq;
    return seq;
}

static void *look(void *argument) {
    struct seen *seen = (struct seen *)argument;
    framesrv_frames *frames = seen->each ? framesrv_frames_begin(reader, NULL) : NULL;
    uint64_t last = 0;
    int64_t pts;
    while (seen->frames < goal && take(frames, seen, 20, &last, &pts)) {
    }
    framesrv_frames_end(frames);
    return NULL;
}

static void *follow(void *argument) {
    struct seen *seen = (struct seen *)argument;
    framesrv_frames *frames = seen->each ? framesrv_frames_begin(reader, NULL) : NULL;
    uint64_t last = 0, source = UINT64_MAX;
    int64_t pts, deadline = framesrv_now_() + INT64_C(100000000000);
    while (!__atomic_load_n(&done, __ATOMIC_RELAXED) && framesrv_now_() < deadline) {
        if (!take(frames, seen, 1, &last, &pts))
            continue;
        seen->sources += source != (uint64_t)pts >> 32;
        source = (uint64_t)pts >> 32;
        if (source == goal)
            __atomic_store_n(&done, 1, __ATOMIC_RELAXED);
    }
    framesrv_frames_end(frames);
    return NULL;
}

static int in_threads(void *(*work)(void *), int count) {
    pthread_t threads[4];
    struct seen seen[4], all;
    int i;
    memset(seen, 0, sizeof seen);
    memset(&all, 0, sizeof all);
    puts("ready");
    fflush(stdout);
    for (i = 0; i < count; i++) {
        seen[i].each = i % 2;
        if (pthread_create(&threads[i], NULL, work, &seen[i]) != 0)
            return 1;
    }
    for (i = 0; i < count; i++) {
        pthread_join(threads[i], NULL);
        all.frames += seen[i].frames;
        all.torn += seen[i].torn;
        all.disordered += seen[i].disordered;
        all.errors += seen[i].errors;
        if (seen[i].sources > all.sources)
            all.sources = seen[i].sources;
    }
    printf("{\"frames\": %lu, \"torn\": %lu, \"disordered\": %lu, \"sources\": %lu, \"errors\": %lu}\n", all.frames,
           all.torn, all.disordered, all.sources, all.errors);
    return 0;
}

static int told(int result, const framesrv_frame *frame, const framesrv_error *error) {
    if (result != FRAMESRV_OK)
        printf("%d %s\n", result, error->text);
    else
        printf("0 %llu %ux%u %u %s\n", (unsigned long long)frame->seq, frame->width, frame->height,
               frame->pixel_format, shows(frame) ? "whole" : "other");
    fflush(stdout);
    return result != FRAMESRV_OK;
}

static int stamp(void) {
    framesrv_frame frame;
    if (framesrv_latest(reader, FRAMESRV_ANY_AGE, 20, &frame, NULL) != FRAMESRV_OK)
        return 1;
    printf("%lld %llu %llu %u %u %u %u %u %u %u\n", (long long)frame.pts, (unsigned long long)frame.captured,
           (unsigned long long)frame.arrived, frame.matrix, frame.range, frame.key_frame, frame.clock,
           frame.aspect_width, frame.aspect_height, frame.rotated);
    return framesrv_release(&frame);
}

static int fresh(void) {
    framesrv_frame frame;
    framesrv_error error;
    int result = framesrv_latest(reader, (double)goal / 1000, 0, &frame, &error);
    told(result, &frame, &error);
    return framesrv_release(&frame);
}

static int hold(void) {
    framesrv_frame frame;
    framesrv_error error;
    const char *seen;
    if (told(framesrv_latest(reader, FRAMESRV_ANY_AGE, 20, &frame, &error), &frame, &error))
        return 1;
    getchar();
    seen = shows(&frame) ? "whole" : "other";
    printf("%s %d\n", seen, framesrv_check(&frame));
    printf("%s\n", framesrv_meaning(framesrv_release(&frame)));
    told(framesrv_latest(reader, FRAMESRV_ANY_AGE, 0.2, &frame, &error), &frame, &error);
    framesrv_release(&frame);
    getchar();
    return 0;
}

static int wait_for_one(void) {
    framesrv_frame frame;
    framesrv_error error;
    int result;
    puts("waits");
    fflush(stdout);
    result = framesrv_latest(reader, 0, goal ? (double)goal : 20, &frame, &error);
    told(result, &frame, &error);
    framesrv_release(&frame);
    getchar();
    return result;
}

static int fork_once(void) {
    framesrv_frame frame, other;
    framesrv_error error;
    framesrv_frames *frames;
    int status;
    if (framesrv_latest(reader, FRAMESRV_ANY_AGE, 20, &frame, &error) != FRAMESRV_OK)
        return 1;
    frames = framesrv_frames_begin(reader, &error);
    framesrv_frames_next(frames, 0.01, &other, &error); /* there is no other; from now on it asks for one */
    if (fork() == 0) {
        told(framesrv_latest(reader, FRAMESRV_ANY_AGE, 1, &other, &error), &other, &error);
        framesrv_release(&frame);
        framesrv_frames_end(frames);
        framesrv_close(reader);
        _exit(0);
    }
    if (wait(&status) < 0 || status != 0)
        return 1;
    puts("pinned");
    fflush(stdout);
    getchar();
    framesrv_frames_end(frames);
    return framesrv_release(&frame);
}

static int touch(void) {
    FILE *file = tmpfile();
    volatile char *memory;
    framesrv_frame frame;
    if (framesrv_latest(reader, FRAMESRV_ANY_AGE, 20, &frame, NULL) != FRAMESRV_OK || file == NULL)
        return 1;
    memory = (volatile char *)mmap(NULL, 4096, PROT_READ, MAP_SHARED, fileno(file), 0);
    puts("touches");
    fflush(stdout);
    return memory[0];
}

int main(int count, char **words) {
    framesrv_error error;
    int status;
    if (count == 3 && strcmp(words[1], "user") == 0) {
        char user[FRAMESRV_LONGEST_NAME_ + 1];
        framesrv_service_user_(words[2], user);
        return puts(user) < 0;
    }
    if (count < 4)
        return 2;
    prefix = words[2];
    code = words[3];
    goal = count > 4 ? strtoull(words[4], NULL, 10) : 0;
    reader = framesrv_open(code, prefix, strcmp(words[1], "one") == 0 && count > 4 ? words[4] : NULL, &error);
    if (reader == NULL)
        return told(error.code, NULL, &error);
    if (strcmp(words[1], "look") == 0)
        status = in_threads(look, 4);
    else if (strcmp(words[1], "follow") == 0)
        status = in_threads(follow, 2);
    else if (strcmp(words[1], "fresh") == 0)
        status = fresh();
    else if (strcmp(words[1], "stamp") == 0)
        status = stamp();
    else if (strcmp(words[1], "hold") == 0)
        status = hold();
    else if (strcmp(words[1], "wait") == 0)
        status = wait_for_one();
    else if (strcmp(words[1], "fork") == 0)
        status = fork_once();
    else if (strcmp(words[1], "touch") == 0)
        status = touch();
    else {
        framesrv_frame frame;
        status = told(framesrv_latest(reader, FRAMESRV_ANY_AGE, 0.2, &frame, &error), &frame, &error);
        framesrv_release(&frame);
        getchar();
    }
    framesrv_close(reader);
    return status;
}
