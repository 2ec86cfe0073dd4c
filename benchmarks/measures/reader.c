/* A reader in C for the benchmark `readers`: how late each frame, or each ping through a bare futex, is.
 *
 *   reader frames|latest|bare PREFIX CODE CLOCK SECONDS
 *
 * CLOCK is a page: a futex word and the number of the ping, when the ping was sent, when the writer woke its readers.
 * It prints the share of a core that it took, in %, and then for each frame how many nanoseconds passed since it was
 * published and since the writer woke its readers.
 */
#define FRAMESRV_IMPLEMENTATION
#include "framesrv.h"

#define MOST 100000
#define LEAST 2 /* below which nothing can be said: on a busy machine they may take longer than SECONDS */

static int64_t published[MOST], woken[MOST];

static double cpu(void) {
    struct timespec spent;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &spent);
    return (double)spent.tv_sec + (double)spent.tv_nsec / 1e9;
}

int main(int count, char **words) {
    framesrv_error error;
    framesrv_frame frame;
    framesrv_reader *camera;
    framesrv_frames *frames;
    volatile int64_t *clock_page;
    int64_t began = 0, until, last;
    double spent = 0;
    uint32_t *word, seen;
    int taken = 0, i, is_bare, is_latest;
    if (count != 6)
        return 2;
    is_bare = strcmp(words[1], "bare") == 0;
    is_latest = strcmp(words[1], "latest") == 0;
    clock_page = (volatile int64_t *)mmap(NULL, 4096, PROT_READ, MAP_SHARED, open(words[4], O_RDONLY), 0);
    word = (uint32_t *)(uintptr_t)clock_page;
    camera = framesrv_open(words[3], words[2], NULL, &error);
    frames = camera == NULL || is_bare ? NULL : framesrv_frames_begin(camera, &error);
    if (camera == NULL || (void *)clock_page == MAP_FAILED)
        return 1;
    until = last = framesrv_now_() + INT64_C(30000000000);
    while (taken < MOST && framesrv_now_() < (taken < LEAST ? last : until)) {
        if (is_bare) {
            struct timespec limit = {1, 0};
            seen = __atomic_load_n(word, __ATOMIC_ACQUIRE);
            if (syscall(SYS_futex, word, FUTEX_WAIT, seen, &limit, NULL, 0) != 0)
                continue;
            published[taken] = woken[taken] = framesrv_now_() - clock_page[1];
        } else {
            int64_t now;
            if ((is_latest ? framesrv_latest(camera, 0, 10, &frame, &error)
                           : framesrv_frames_next(frames, 10, &frame, &error)) != FRAMESRV_OK) {
                fprintf(stderr, "%s\n", error.text);
                return 1;
            }
            now = framesrv_now_();
            published[taken] = now - (int64_t)frame.arrived;
            woken[taken] = now - clock_page[2];
            framesrv_release(&frame);
        }
        if (began == 0) { /* the first one is there: from now on it counts */
            began = framesrv_now_();
            until = began + (int64_t)(atof(words[5]) * 1e9);
            spent = cpu();
            continue;
        }
        taken++;
    }
    printf("%f\n", (cpu() - spent) / ((double)(framesrv_now_() - began) / 1e9) * 100);
    for (i = 0; i < taken; i++)
        printf("%lld %lld\n", (long long)published[i], (long long)woken[i]);
    framesrv_frames_end(frames);
    framesrv_close(camera);
    return 0;
}
