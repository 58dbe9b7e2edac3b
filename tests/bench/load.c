/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * load: the server and the client of the benchmark, the same for every contestant. One thread and one epoll
 * each, so that on two cores there is something left for what is measured.
 *
 *     load serve ADDRESS            prints "SINK SOURCE ASK", the ports of its three services, and serves:
 *                                   sink    reads; behind a byte E says how many came (8 bytes, big-endian).
 *                                           No end of file for that: a proxy may not know half-closed streams
 *                                   source  writes until the other side closes; behind a request line "GET /N"
 *                                           it is HTTP/1.0 and writes N bytes
 *                                   ask     64 bytes in, 256 bytes out; closes first if the request begins with C,
 *                                           answers in two writes, head and body, if with H
 *     load up|down  HOST PORT STREAMS MS      bytes of all streams in a time
 *     load requests HOST PORT CLIENTS MS      a connection per request
 *     load ping     HOST PORT COUNT MS HOW    requests on one connection, beginning with HOW: percentiles of the
 *                                           round trip; it ends early after MS
 *     load hold     HOST PORT COUNT           connections that stay open; after each line of input all ask again
 *
 * The client says "ready", waits for a line, works, prints "name value" pairs in one line, and waits for the end
 * of its input, so that whoever measures can look at processes before and after. All exits but 0 print why.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { CHUNK = 1 << 17, REQUEST = 64, ANSWER = 256, HEAD = 56, EVENTS = 256, PATIENCE_S = 10, AT_ONCE = 200 };
enum service { LISTEN_SINK, LISTEN_SOURCE, LISTEN_ASK, SINK, SOURCE, HTTP, ASK };

struct peer {
    int fd;
    enum service service;
    uint64_t count;  /* bytes read (sink, ask), or left to write (http); rounds answered (client) */
    char request[REQUEST];
};

static char chunk[CHUNK];
static int epfd;

static void fail(const char *what)
{
    printf("failed %s: %s\n", what, strerror(errno));
    fflush(stdout);
    exit(1);
}

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

static void all_descriptors(void)
{
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

static void watch(struct peer *peer, uint32_t events, int how)
{
    struct epoll_event event = {.events = events, .data.ptr = peer};
    if (epoll_ctl(epfd, how, peer->fd, &event))
        fail("epoll_ctl");
}

static struct peer *new_peer(int fd, enum service service, uint32_t events)
{
    struct peer *peer = calloc(1, sizeof *peer);
    if (!peer)
        fail("calloc");
    peer->fd = fd;
    peer->service = service;
    watch(peer, events, EPOLL_CTL_ADD);
    return peer;
}

static void drop(struct peer *peer)
{
    close(peer->fd);
    free(peer);
}

static void nodelay(int fd)
{
    int one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

/* ---- server ---- */

static int listener(const char *address, enum service service)
{
    struct sockaddr_in place = {.sin_family = AF_INET};
    socklen_t size = sizeof place;
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0 || inet_pton(AF_INET, address, &place.sin_addr) != 1)
        fail(address);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, (struct sockaddr *)&place, size) || listen(fd, 4096) ||
        getsockname(fd, (struct sockaddr *)&place, &size))
        fail("listen");
    new_peer(fd, service, EPOLLIN);
    return ntohs(place.sin_port);
}

static void welcome(struct peer *door)
{
    for (int left = 64; left; left--) {
        int fd = accept4(door->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0)
            return;
        nodelay(fd);
        if (door->service == LISTEN_SOURCE)
            new_peer(fd, SOURCE, EPOLLIN | EPOLLOUT);
        else
            new_peer(fd, door->service == LISTEN_SINK ? SINK : ASK, EPOLLIN);
    }
}

static void sink(struct peer *peer)
{
    for (int turn = 0; turn < 8; turn++) {
        ssize_t got = recv(peer->fd, chunk, CHUNK, 0);
        if (got < 0 && errno == EAGAIN)
            return;
        if (got <= 0) {
            drop(peer);
            return;
        }
        peer->count += got;
        if (chunk[got - 1] == 'E') {
            uint64_t count = htobe64(peer->count);
            send(peer->fd, &count, sizeof count, MSG_NOSIGNAL);
        }
    }
}

/* A line "GET /N": what follows is HTTP. Whoever says nothing gets bytes without end. */
static int begins_http(struct peer *peer)
{
    unsigned long long size;
    char header[128];
    ssize_t got = recv(peer->fd, chunk, CHUNK - 1, 0);
    if (got <= 0)
        return got < 0 && errno == EAGAIN ? 0 : -1;
    chunk[got] = 0;
    if (sscanf(chunk, "GET /%llu", &size) != 1)
        return 0;
    int length = snprintf(header, sizeof header, "HTTP/1.0 200 OK\r\nContent-Length: %llu\r\n\r\n", size);
    if (send(peer->fd, header, length, MSG_NOSIGNAL) != length)
        return -1;
    peer->service = HTTP;
    peer->count = size;
    watch(peer, EPOLLIN | EPOLLOUT, EPOLL_CTL_MOD);
    return 0;
}

static void source(struct peer *peer, uint32_t events)
{
    if (events & (EPOLLHUP | EPOLLERR)) {
        drop(peer);
        return;
    }
    if (events & EPOLLIN && begins_http(peer)) {
        drop(peer);
        return;
    }
    /* a request may be on its way: the first byte of it decides, so a client of `down` sends one */
    if (peer->service == SOURCE && !peer->count) {
        if (events & EPOLLIN)
            peer->count = 1;
        else {
            watch(peer, EPOLLIN, EPOLL_CTL_MOD);
            return;
        }
        watch(peer, EPOLLIN | EPOLLOUT, EPOLL_CTL_MOD);
    }
    for (int turn = 0; turn < 8; turn++) {
        size_t want = peer->service == HTTP && peer->count < CHUNK ? peer->count : CHUNK;
        ssize_t sent = want ? send(peer->fd, chunk, want, MSG_NOSIGNAL) : 0;
        if (!want || (sent < 0 && errno != EAGAIN)) {
            drop(peer);
            return;
        }
        if (sent < 0)
            return;
        if (peer->service == HTTP)
            peer->count -= sent;
    }
}

static void ask(struct peer *peer)
{
    for (;;) {
        size_t have = peer->count;
        ssize_t got = recv(peer->fd, peer->request + have, REQUEST - have, 0);
        if (got < 0 && errno == EAGAIN)
            return;
        if (got <= 0) {
            drop(peer);
            return;
        }
        peer->count += got;
        if (peer->count < REQUEST)
            continue;
        peer->count = 0;
        int head = peer->request[0] == 'H' ? HEAD : 0;
        if ((head && send(peer->fd, chunk, head, MSG_NOSIGNAL) != head) ||
            send(peer->fd, chunk, ANSWER - head, MSG_NOSIGNAL) != ANSWER - head || peer->request[0] == 'C') {
            drop(peer);
            return;
        }
    }
}

static void serve(const char *address)
{
    struct epoll_event events[EVENTS];
    printf("%d ", listener(address, LISTEN_SINK));
    printf("%d ", listener(address, LISTEN_SOURCE));
    printf("%d\n", listener(address, LISTEN_ASK));
    fflush(stdout);
    for (;;) {
        int count = epoll_wait(epfd, events, EVENTS, -1);
        for (int i = 0; i < count; i++) {
            struct peer *peer = events[i].data.ptr;
            if (peer->service <= LISTEN_ASK)
                welcome(peer);
            else if (peer->service == SINK)
                sink(peer);
            else if (peer->service == ASK)
                ask(peer);
            else
                source(peer, events[i].events);
        }
    }
}

/* ---- client ---- */

static struct sockaddr_in far_end;

static void wait_for_line(void)
{
    char c;
    while (read(0, &c, 1) == 1 && c != '\n')
        ;
}

static void ready(void)
{
    puts("ready");
    fflush(stdout);
    wait_for_line();
}

static void result(const char *text)
{
    char c;
    puts(text);
    fflush(stdout);
    while (read(0, &c, 1) == 1)
        ;
}

static int begin_connect(void)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        fail("socket");
    nodelay(fd);
    if (connect(fd, (struct sockaddr *)&far_end, sizeof far_end) && errno != EINPROGRESS)
        fail("connect");
    return fd;
}

static int connected(void)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct timeval patience = {.tv_sec = PATIENCE_S};
    if (fd < 0)
        fail("socket");
    nodelay(fd);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    if (connect(fd, (struct sockaddr *)&far_end, sizeof far_end))
        fail("connect");
    return fd;
}

static void bulk(int up, int streams, double seconds)
{
    struct epoll_event events[EVENTS];
    struct peer *peers[64];
    char text[128];
    uint64_t total = 0;
    int fds[64];
    if (streams > 64)
        streams = 64;
    for (int i = 0; i < streams; i++)
        fds[i] = connected();
    ready();
    double begin = now_s(), end = begin + seconds;
    for (int i = 0; i < streams; i++) {
        if (!up && send(fds[i], "x", 1, 0) != 1)
            fail("send");
        peers[i] = new_peer(fds[i], SINK, up ? EPOLLOUT : EPOLLIN);
    }
    while (now_s() < end) {
        int count = epoll_wait(epfd, events, EVENTS, 100);
        for (int i = 0; i < count; i++) {
            struct peer *peer = events[i].data.ptr;
            for (int turn = 0; turn < 8; turn++) {
                ssize_t moved = up ? send(peer->fd, chunk, CHUNK, MSG_DONTWAIT | MSG_NOSIGNAL)
                                   : recv(peer->fd, chunk, CHUNK, MSG_DONTWAIT);
                if (moved < 0 && errno == EAGAIN)
                    break;
                if (moved <= 0)
                    fail("bulk");
                total += moved;
            }
        }
    }
    if (up) {  /* what counts is what arrived, and the time until it had */
        total = 0;
        for (int i = 0; i < streams; i++)
            if (send(peers[i]->fd, "E", 1, MSG_NOSIGNAL) != 1)
                fail("send");
        for (int i = 0; i < streams; i++) {
            uint64_t count;
            if (recv(peers[i]->fd, &count, sizeof count, MSG_WAITALL) != sizeof count)
                fail("the far end's count");
            total += be64toh(count);
        }
    }
    double took = now_s() - begin;
    snprintf(text, sizeof text, "bytes %llu seconds %.6f", (unsigned long long)total, took);
    result(text);
}

static void ask_now(struct peer *peer, char how)
{
    char request[REQUEST] = {how};
    if (send(peer->fd, request, REQUEST, MSG_NOSIGNAL) != REQUEST)
        fail("send");
}

static void requests(int clients, double seconds)
{
    struct epoll_event events[EVENTS];
    char text[128];
    long done = 0, broken = 0;
    ready();
    double begin = now_s(), end = begin + seconds, time = begin;
    for (int i = 0; i < clients; i++)
        new_peer(begin_connect(), LISTEN_ASK, EPOLLOUT);
    while (time < end) {
        int count = epoll_wait(epfd, events, EVENTS, 100);
        for (int i = 0; i < count; i++) {
            struct peer *peer = events[i].data.ptr;
            if (peer->service == LISTEN_ASK && !(events[i].events & (EPOLLERR | EPOLLHUP))) {
                ask_now(peer, 'C');
                peer->service = ASK;
                watch(peer, EPOLLIN, EPOLL_CTL_MOD);
                continue;
            }
            ssize_t got = recv(peer->fd, chunk, CHUNK, 0);
            if (got > 0) {
                peer->count += got;
                continue;
            }
            if (got < 0 && errno == EAGAIN)
                continue;
            if (peer->count == ANSWER)
                done++;
            else
                broken++;
            drop(peer);
            new_peer(begin_connect(), LISTEN_ASK, EPOLLOUT);
        }
        time = now_s();
    }
    snprintf(text, sizeof text, "requests %ld broken %ld seconds %.6f", done, broken, time - begin);
    result(text);
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void ping(int count, double seconds, char how)
{
    char text[128];
    double *times = calloc(count, sizeof *times);
    struct peer peer = {.fd = connected()};
    if (!times)
        fail("calloc");
    ready();
    double end = now_s() + seconds;
    for (int i = -(count / 10); i < count; i++) {
        double begin = now_s();
        if (begin > end && i > 0)
            count = i;
        ask_now(&peer, how);
        if (recv(peer.fd, chunk, ANSWER, MSG_WAITALL) != ANSWER)
            fail("answer");
        if (i >= 0)
            times[i] = now_s() - begin;
    }
    qsort(times, count, sizeof *times, by_size);
    snprintf(text, sizeof text, "p50 %.1f p99 %.1f", times[count / 2] * 1e6, times[count * 99 / 100] * 1e6);
    result(text);
}

/* Every connection asks once and waits for its answer, AT_ONCE of them at a time. */
static int all_ask(struct peer *peers, int count)
{
    int answered = 0;
    for (int from = 0; from < count; from += AT_ONCE) {
        int until = from + AT_ONCE < count ? from + AT_ONCE : count;
        for (int i = from; i < until; i++) {
            char request[REQUEST] = "K";
            if (send(peers[i].fd, request, REQUEST, MSG_NOSIGNAL) != REQUEST)
                peers[i].count = 1;
        }
        for (int i = from; i < until; i++)
            answered += !peers[i].count && recv(peers[i].fd, chunk, ANSWER, MSG_WAITALL) == ANSWER;
    }
    return answered;
}

static void hold(int count)
{
    struct peer *peers = calloc(count, sizeof *peers);
    char c;
    if (!peers)
        fail("calloc");
    ready();
    for (int i = 0; i < count; i++)
        peers[i].fd = connected();
    do {
        printf("answered %d\n", all_ask(peers, count));
        fflush(stdout);
    } while (read(0, &c, 1) == 1);
}

int main(int argc, char **argv)
{
    signal(SIGPIPE, SIG_IGN);
    all_descriptors();
    epfd = epoll_create1(EPOLL_CLOEXEC);
    if (argc == 3 && !strcmp(argv[1], "serve"))
        serve(argv[2]);
    if (argc < 5 || inet_pton(AF_INET, argv[2], &far_end.sin_addr) != 1) {
        puts("failed usage: see load.c");
        return 2;
    }
    far_end.sin_family = AF_INET;
    far_end.sin_port = htons(atoi(argv[3]));
    int count = atoi(argv[4]);
    double seconds = argc > 5 ? atoi(argv[5]) / 1000.0 : 1;
    if (!strcmp(argv[1], "up") || !strcmp(argv[1], "down"))
        bulk(argv[1][0] == 'u', count, seconds);
    else if (!strcmp(argv[1], "requests"))
        requests(count, seconds);
    else if (!strcmp(argv[1], "ping"))
        ping(count, seconds, argc > 6 ? argv[6][0] : 'K');
    else if (!strcmp(argv[1], "hold"))
        hold(count);
    return 0;
}
