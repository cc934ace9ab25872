// A line echo by hand: level-triggered epoll, one read, lines split with memchr, one write.
// CRLF or LF in, CRLF out. A line that is not whole, and output that is not taken, wait in memory of their own.
// usage: echo ADDR PORT
#include "epoll.h"

enum { LIMIT = 65536, READ = 65536 };

struct kept {
    char *bytes;
    size_t size;
};

struct peer {
    int fd;
    struct kept line;   // the start of a line whose end has not come
    struct kept output; // what the socket did not take; nothing is read meanwhile
};

static char in[LIMIT + READ];
static char out[2 * (LIMIT + READ)]; // a bare LF becomes two bytes

static void keep(struct kept *kept, const char *bytes, size_t size) {
    char *copy = size ? malloc(size) : NULL;
    if (size && !copy)
        abort();
    if (size)
        memcpy(copy, bytes, size);
    free(kept->bytes);
    kept->bytes = copy;
    kept->size = size;
}

static void end(struct peer *peer) {
    close(peer->fd);
    free(peer->line.bytes);
    free(peer->output.bytes);
    free(peer);
}

// Writes once, and keeps the rest. 0 if the connection is lost.
static int put(struct peer *peer, const char *bytes, size_t size) {
    ssize_t count = send(peer->fd, bytes, size, MSG_NOSIGNAL);
    if (count < 0 && errno != EAGAIN && errno != EINTR)
        return 0;
    size_t taken = count < 0 ? 0 : (size_t)count;
    int waited = peer->output.size > 0, waits = taken < size;
    if (waits || waited)
        keep(&peer->output, bytes + taken, size - taken);
    if (waits != waited)
        watch(EPOLL_CTL_MOD, peer->fd, waits ? EPOLLOUT : EPOLLIN, peer);
    return 1;
}

// Reads once, and echoes each whole line. 0 if the connection is over.
static int serve(struct peer *peer) {
    size_t held = peer->line.size;
    ssize_t count = read(peer->fd, in + held, READ);
    if (count <= 0)
        return count < 0 && (errno == EAGAIN || errno == EINTR);
    if (held)
        memcpy(in, peer->line.bytes, held);
    char *start = in, *stop = in + held + count, *search = in + held, *put_at = out, *lf;
    while ((lf = memchr(search, '\n', stop - search))) {
        size_t size = lf - start;
        if (size && lf[-1] == '\r')
            size--;
        if (size > LIMIT)
            return 0;
        memcpy(put_at, start, size);
        put_at += size;
        *put_at++ = '\r';
        *put_at++ = '\n';
        start = search = lf + 1;
    }
    size_t rest = stop - start;
    if (rest > LIMIT)
        return 0;
    if (rest || held)
        keep(&peer->line, start, rest);
    return put_at == out || put(peer, out, put_at - out);
}

int main(int count, char **words) {
    int listener = listen_at(count, words);
    struct epoll_event events[EVENTS];
    for (;;) {
        int ready = epoll_wait(poller, events, EVENTS, -1);
        for (int i = 0; i < ready; i++) {
            struct peer *peer = events[i].data.ptr;
            if (!peer)
                while (take(listener, sizeof *peer))
                    ;
            else if (!(peer->output.size ? put(peer, peer->output.bytes, peer->output.size) : serve(peer)))
                end(peer);
        }
    }
}
