#define _GNU_SOURCE
#include "CLinux.h"

#include <pthread.h>

int lifeguard_accept4(int listener, struct sockaddr *address, socklen_t *length, int flags) {
  return accept4(listener, address, length, flags);
}

void lifeguard_name_thread(const char *name) { pthread_setname_np(pthread_self(), name); }

int lifeguard_peer_uid(int descriptor, uid_t *uid) {
  struct ucred credentials;
  socklen_t length = sizeof credentials;
  if (getsockopt(descriptor, SOL_SOCKET, SO_PEERCRED, &credentials, &length) != 0) return -1;
  *uid = credentials.uid;
  return 0;
}
