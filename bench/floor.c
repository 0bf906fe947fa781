/* What moving a call costs when nothing is decided: the floor that bench/call compares usherd with.
 *
 *   floor relay BYTES SECONDS    round trips client -> relay -> echo -> relay -> client; three processes. Client and relay
 *                                speak over a stream socket, as usherd's callers do; relay and echo over SOCK_SEQPACKET, in
 *                                messages of 64 KiB at most. The relay waits in epoll, as whoever has more than one
 *                                party must, and passes on what it reads at once.
 *   floor direct BYTES SECONDS   the same without the relay: client -> echo over SOCK_SEQPACKET
 *   floor memcpy BYTES | shmget BYTES | shmat BYTES | cycle BYTES
 *                                seed benchmarks: a copy (hot), getting and attaching a System V segment, and the whole of
 *                                get, attach, write, detach, remove
 *
 * Prints one JSON object; times in microseconds. Build: cc -O2 -o floor floor.c
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ipc.h>
#include <sys/prctl.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { PIECE = 64 << 10, SAMPLES_MAX = 4 << 20 };

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static double now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e6 + t.tv_nsec / 1e3;
}

static size_t read_some(int fd, char *buffer, size_t bytes)
{
    for (;;) {
        ssize_t got = read(fd, buffer, bytes);
        if (got > 0)
            return (size_t)got;
        if (got == 0)
            exit(0); /* the other end is over, and so are we */
        if (errno != EINTR)
            die("read");
    }
}

static void write_all(int fd, const char *buffer, size_t bytes)
{
    while (bytes > 0) {
        ssize_t put = write(fd, buffer, bytes);
        if (put < 0) {
            if (errno == EINTR)
                continue;
            die("write");
        }
        buffer += put;
        bytes -= (size_t)put;
    }
}

/* A message socket: each piece is one datagram. */
static void write_pieces(int fd, const char *buffer, size_t bytes)
{
    while (bytes > 0) {
        size_t piece = bytes < PIECE ? bytes : PIECE;
        write_all(fd, buffer, piece);
        buffer += piece;
        bytes -= piece;
    }
}

static void pair(int type, int fds[2])
{
    int bytes = 1 << 20;
    if (socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, fds) < 0)
        die("socketpair");
    for (int i = 0; i < 2; i++) /* as much as the system lets us */
        if (setsockopt(fds[i], SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof bytes) < 0)
            setsockopt(fds[i], SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
}

static pid_t begin(void)
{
    pid_t child = fork();
    if (child < 0)
        die("fork");
    if (child == 0)
        prctl(PR_SET_PDEATHSIG, SIGKILL);
    return child;
}

/* Answers with what it was sent, when all of it has come. */
static void echo(int fd, size_t bytes)
{
    char *buffer = malloc(bytes + PIECE), *answer = malloc(bytes);
    if (!buffer || !answer)
        die("malloc");
    for (;;) {
        size_t got = 0;
        while (got < bytes)
            got += read_some(fd, buffer + got, bytes - got);
        /* A helper has an answer of its own. */
        memcpy(answer, buffer, bytes);
        write_pieces(fd, answer, bytes);
    }
}

/* Passes on whatever comes, either way. */
static void relay(int client, int helper)
{
    static char buffer[256 << 10];
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = client};
    epoll_ctl(epoll, EPOLL_CTL_ADD, client, &event);
    event.data.fd = helper;
    epoll_ctl(epoll, EPOLL_CTL_ADD, helper, &event);
    for (;;) {
        struct epoll_event ready[2];
        int count = epoll_wait(epoll, ready, 2, -1);
        for (int i = 0; i < count; i++) {
            int from = ready[i].data.fd;
            size_t got = read_some(from, buffer, sizeof buffer);
            if (from == client)
                write_pieces(helper, buffer, got);
            else
                write_all(client, buffer, got);
        }
    }
}

static int by_size(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static void round_trips(const char *name, int fd, size_t bytes, double seconds, int pieces)
{
    char *request = malloc(bytes), *answer = malloc(bytes);
    float *samples = malloc(SAMPLES_MAX * sizeof *samples);
    size_t count = 0;
    if (!request || !answer || !samples)
        die("malloc");
    memset(request, 'x', bytes);
    double warm = now_us() + 2e5, end = warm + seconds * 1e6;
    for (uint32_t id = 0; count < SAMPLES_MAX; id++) {
        double start = now_us();
        if (start > end)
            break;
        memcpy(request, &id, sizeof id);
        if (pieces)
            write_pieces(fd, request, bytes);
        else
            write_all(fd, request, bytes);
        size_t got = 0;
        while (got < bytes)
            got += read_some(fd, answer + got, bytes - got);
        if (memcmp(answer, &id, sizeof id) != 0) {
            fprintf(stderr, "an answer to another call\n");
            exit(1);
        }
        if (start > warm)
            samples[count++] = (float)(now_us() - start);
    }
    if (count == 0) {
        fprintf(stderr, "no round trip in %g s\n", seconds);
        exit(1);
    }
    qsort(samples, count, sizeof *samples, by_size);
    printf("{\"what\":\"%s\",\"bytes\":%zu,\"count\":%zu,\"p50_us\":%.2f,\"p99_us\":%.2f}\n", name, bytes, count,
           (double)samples[count / 2], (double)samples[count * 99 / 100]);
}

static void over_processes(int with_relay, size_t bytes, double seconds)
{
    int near[2], far[2];
    pair(SOCK_SEQPACKET, far);
    if (begin() == 0) {
        close(far[0]);
        echo(far[1], bytes);
    }
    close(far[1]);
    if (!with_relay) {
        round_trips("direct", far[0], bytes, seconds, 1);
        return;
    }
    pair(SOCK_STREAM, near);
    if (begin() == 0) {
        close(near[0]);
        relay(near[1], far[0]);
    }
    close(near[1]);
    close(far[0]);
    round_trips("relay", near[0], bytes, seconds, 0);
}

/* Medians of many rounds of `once`. */
static void repeated(const char *name, size_t bytes, double (*once)(size_t))
{
    enum { ROUNDS = 2001 };
    static float samples[ROUNDS];
    for (int i = 0; i < ROUNDS; i++)
        samples[i] = (float)once(bytes);
    qsort(samples, ROUNDS, sizeof *samples, by_size);
    printf("{\"what\":\"%s\",\"bytes\":%zu,\"p50_us\":%.3f,\"p99_us\":%.3f}\n", name, bytes, (double)samples[ROUNDS / 2],
           (double)samples[ROUNDS * 99 / 100]);
}

static double one_memcpy(size_t bytes)
{
    enum { TIMES = 64 };
    static char *from, *to;
    if (!from) {
        from = malloc(bytes);
        to = malloc(bytes);
        if (!from || !to)
            die("malloc");
        memset(from, 1, bytes);
        memset(to, 2, bytes);
    }
    double start = now_us();
    for (int i = 0; i < TIMES; i++) {
        memcpy(to, from, bytes);
        __asm__ volatile("" : : "r"(to), "r"(from) : "memory");
    }
    return (now_us() - start) / TIMES;
}

static int segment(size_t bytes)
{
    int id = shmget(IPC_PRIVATE, bytes, IPC_CREAT | 0600);
    if (id < 0)
        die("shmget");
    return id;
}

static double one_shmget(size_t bytes)
{
    double start = now_us();
    int id = segment(bytes);
    double took = now_us() - start;
    shmctl(id, IPC_RMID, NULL);
    return took;
}

static double one_shmat(size_t bytes)
{
    int id = segment(bytes);
    double start = now_us();
    char *at = shmat(id, NULL, 0);
    double took = now_us() - start;
    if (at == (void *)-1)
        die("shmat");
    shmdt(at);
    shmctl(id, IPC_RMID, NULL);
    return took;
}

static double one_cycle(size_t bytes)
{
    double start = now_us();
    int id = segment(bytes);
    char *at = shmat(id, NULL, 0);
    if (at == (void *)-1)
        die("shmat");
    memset(at, 1, bytes);
    shmdt(at);
    shmctl(id, IPC_RMID, NULL);
    return now_us() - start;
}

int main(int count, char **words)
{
    const char *what = count > 2 ? words[1] : "";
    size_t bytes = count > 2 ? strtoul(words[2], NULL, 10) : 0;
    double seconds = count > 3 ? atof(words[3]) : 1;
    if (bytes < 4 || bytes > (64 << 20)) {
        fprintf(stderr, "usage: floor relay|direct|memcpy|shmget|shmat|cycle BYTES [SECONDS]\n");
        return 2;
    }
    signal(SIGCHLD, SIG_IGN);
    if (!strcmp(what, "relay") || !strcmp(what, "direct"))
        over_processes(!strcmp(what, "relay"), bytes, seconds);
    else if (!strcmp(what, "memcpy"))
        repeated(what, bytes, one_memcpy);
    else if (!strcmp(what, "shmget"))
        repeated(what, bytes, one_shmget);
    else if (!strcmp(what, "shmat"))
        repeated(what, bytes, one_shmat);
    else if (!strcmp(what, "cycle"))
        repeated(what, bytes, one_cycle);
    else {
        fprintf(stderr, "floor: unknown: %s\n", what);
        return 2;
    }
    return 0;
}
