#define _GNU_SOURCE
#include "CLinux.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>

int lifeguard_accept4(int listener, struct sockaddr *address, socklen_t *length, int flags) {
  return accept4(listener, address, length, flags);
}

ssize_t lifeguard_receive(int descriptor, void *buffer, size_t count) {
  return syscall(SYS_recvfrom, descriptor, buffer, count, 0, NULL, NULL);
}

ssize_t lifeguard_send(int descriptor, const void *buffer, size_t count) {
  return syscall(SYS_sendto, descriptor, buffer, count, MSG_NOSIGNAL, NULL, 0);
}

void lifeguard_name_thread(const char *name) { pthread_setname_np(pthread_self(), name); }

int lifeguard_processor_count(void) {
  /* With more processors than a cpu_set_t has room for the call fails. */
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set);
  long online = sysconf(_SC_NPROCESSORS_ONLN);
  return online > 0 ? (int)online : 1;
}

int lifeguard_peer_uid(int descriptor, uid_t *uid) {
  struct ucred credentials;
  socklen_t length = sizeof credentials;
  if (getsockopt(descriptor, SOL_SOCKET, SO_PEERCRED, &credentials, &length) != 0) return -1;
  *uid = credentials.uid;
  return 0;
}

static int signal_pipe_end = -1;

static void write_signal(int number) {
  int saved = errno;
  unsigned char byte = (unsigned char)number;
  ssize_t written = write(signal_pipe_end, &byte, 1);
  (void)written;
  errno = saved;
}

int lifeguard_signal_pipe(const int *signals, int count) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0 || fcntl(ends[1], F_SETFL, O_NONBLOCK) != 0) return -1;
  signal_pipe_end = ends[1];
  struct sigaction action = {.sa_handler = write_signal, .sa_flags = SA_RESTART};
  for (int index = 0; index < count; index++) {
    if (sigaction(signals[index], &action, NULL) != 0) return -1;
  }
  return ends[0];
}
