#ifndef LIFEGUARD_CURING_H
#define LIFEGUARD_CURING_H

#include <linux/io_uring.h>
#include <stddef.h>
#include <stdint.h>

/* What Swift cannot say of io_uring(7) by itself: three system calls without a wrapper in glibc, memory that is shared
   with the kernel, and structures full of unions. No logic. */

/* The queues of a ring, mapped. Only the thread that opened the ring may use it. */
struct lifeguard_ring {
  int descriptor;
  /* Submissions: the kernel takes from the head, we add at the tail. */
  uint32_t *submission_head;
  uint32_t *submission_tail;
  uint32_t *submission_flags;
  uint32_t submission_count;
  struct io_uring_sqe *submissions;
  /* Completions: we take from the head, the kernel adds at the tail. */
  uint32_t *completion_head;
  uint32_t *completion_tail;
  uint32_t completion_count;
  struct io_uring_cqe *completions;
  void *mapping;
  size_t mapping_size;
};

/* Opens a ring with room for so many submissions and completions (powers of two). `flags` are those of io_uring_setup(2)
   that the ring must have. Returns 0, or an errno with nothing left open. */
int lifeguard_ring_open(struct lifeguard_ring *ring, uint32_t submissions, uint32_t completions, uint32_t flags);

void lifeguard_ring_close(struct lifeguard_ring *ring);

/* Submits so many entries, and does nothing else. Returns 0, or an errno. */
int lifeguard_ring_submit(struct lifeguard_ring *ring, uint32_t submissions);

/* Submits, has the kernel do what is due, and waits until `completions` are there; a time-out below 0 never comes.
   Returns 0, or an errno: ETIME once the time-out has. */
int lifeguard_ring_wait(
    struct lifeguard_ring *ring, uint32_t submissions, uint32_t completions, int64_t timeout_nanoseconds);

/* Has the kernel take buffers for receives from a ring of `count` entries, page-aligned, as group `group`. Returns 0, or
   an errno. */
int lifeguard_ring_provide(struct lifeguard_ring *ring, void *buffers, uint32_t count, uint16_t group);

/* Zeroed pages, or NULL. */
void *lifeguard_map_pages(size_t size);
void lifeguard_unmap_pages(void *pages, size_t size);

struct lifeguard_submission {
  uint8_t opcode;
  uint8_t flags;
  uint16_t priority;
  int32_t descriptor;
  uint64_t address;
  uint32_t length;
  /* msg_flags, accept_flags, poll32_events or cancel_flags. */
  uint32_t operation_flags;
  uint64_t user_data;
  uint16_t buffer_group;
};

struct lifeguard_completion {
  uint64_t user_data;
  int32_t result;
  uint32_t flags;
};

static inline uint32_t lifeguard_load_acquire(const uint32_t *value) {
  return __atomic_load_n(value, __ATOMIC_ACQUIRE);
}

static inline void lifeguard_store_release(uint32_t *value, uint32_t stored) {
  __atomic_store_n(value, stored, __ATOMIC_RELEASE);
}

static inline void lifeguard_ring_write(struct io_uring_sqe *entry, struct lifeguard_submission submission) {
  __builtin_memset(entry, 0, sizeof *entry);
  entry->opcode = submission.opcode;
  entry->flags = submission.flags;
  entry->ioprio = submission.priority;
  entry->fd = submission.descriptor;
  entry->addr = submission.address;
  entry->len = submission.length;
  entry->msg_flags = submission.operation_flags;
  entry->user_data = submission.user_data;
  entry->buf_group = submission.buffer_group;
}

static inline struct lifeguard_completion lifeguard_ring_read(const struct io_uring_cqe *entry) {
  return (struct lifeguard_completion){entry->user_data, entry->res, entry->flags};
}

static inline void lifeguard_ring_rename(struct io_uring_cqe *entry, uint64_t user_data) {
  entry->user_data = user_data;
}

/* The tail of a ring of buffers shares its memory with the first of them. */
static inline void lifeguard_buffer_write(
    void *buffers, uint16_t position, void *address, uint32_t length, uint16_t identifier) {
  struct io_uring_buf *buffer = (struct io_uring_buf *)buffers + position;
  buffer->addr = (uint64_t)(uintptr_t)address;
  buffer->len = length;
  buffer->bid = identifier;
}

static inline void lifeguard_buffer_publish(void *buffers, uint16_t tail) {
  __atomic_store_n(&((struct io_uring_buf_ring *)buffers)->tail, tail, __ATOMIC_RELEASE);
}

#endif
