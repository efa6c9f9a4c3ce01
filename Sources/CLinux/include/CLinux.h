#ifndef LIFEGUARD_CLINUX_H
#define LIFEGUARD_CLINUX_H

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <malloc.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

/* glibc declares accept4 only under _GNU_SOURCE, which Swift's importer does not set. */
int lifeguard_accept4(int listener, struct sockaddr *address, socklen_t *length, int flags);

/* recv(2), and send(2) with MSG_NOSIGNAL. glibc's are points of cancellation, which costs them two atomic operations each;
   no thread of the daemon is ever cancelled. */
ssize_t lifeguard_receive(int descriptor, void *buffer, size_t count);
ssize_t lifeguard_send(int descriptor, const void *buffer, size_t count);

/* Has the given signals write their number, one byte, to a pipe; nothing else happens in the handler. Returns the pipe's
   reading end, or -1 with errno. Once in a process. */
int lifeguard_signal_pipe(const int *signals, int count);

/* Names the calling thread (at most 15 bytes) for ps, top and profilers. */
void lifeguard_name_thread(const char *name);

/* The processors that the process may run on (sched_getaffinity); at least 1. */
int lifeguard_processor_count(void);

/* The user on the other end of a Unix socket (SO_PEERCRED). Returns 0, or -1 with errno. */
int lifeguard_peer_uid(int descriptor, uid_t *uid);

#endif
