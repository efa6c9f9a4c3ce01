#define _GNU_SOURCE
#include "CUring.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Since Linux 6.6; not in every system's headers. */
#define LIFEGUARD_SETUP_NO_SQARRAY (1U << 16)

static int setup(uint32_t entries, struct io_uring_params *parameters) {
  return (int)syscall(__NR_io_uring_setup, entries, parameters);
}

int lifeguard_ring_open(struct lifeguard_ring *ring, uint32_t submissions, uint32_t completions, uint32_t flags) {
  struct io_uring_params parameters = {
      .flags = flags | IORING_SETUP_CQSIZE | LIFEGUARD_SETUP_NO_SQARRAY, .cq_entries = completions};
  int descriptor = setup(submissions, &parameters);
  if (descriptor < 0 && errno == EINVAL) {
    parameters = (struct io_uring_params){.flags = flags | IORING_SETUP_CQSIZE, .cq_entries = completions};
    descriptor = setup(submissions, &parameters);
  }
  if (descriptor < 0) return errno;
  /* One mapping has both queues (IORING_FEAT_SINGLE_MMAP) since Linux 5.4. */
  int has_array = !(parameters.flags & LIFEGUARD_SETUP_NO_SQARRAY);
  size_t submissions_end =
      has_array ? parameters.sq_off.array + parameters.sq_entries * sizeof(uint32_t) : 0;
  size_t completions_end = parameters.cq_off.cqes + parameters.cq_entries * sizeof(struct io_uring_cqe);
  size_t size = submissions_end > completions_end ? submissions_end : completions_end;
  size_t entries_size = parameters.sq_entries * sizeof(struct io_uring_sqe);
  const int access = PROT_READ | PROT_WRITE, kind = MAP_SHARED | MAP_POPULATE;
  char *mapping = mmap(NULL, size, access, kind, descriptor, IORING_OFF_SQ_RING);
  void *entries =
      mapping == MAP_FAILED ? MAP_FAILED : mmap(NULL, entries_size, access, kind, descriptor, IORING_OFF_SQES);
  if (entries == MAP_FAILED) {
    int error = errno;
    if (mapping != MAP_FAILED) munmap(mapping, size);
    close(descriptor);
    return error;
  }
  *ring = (struct lifeguard_ring){
      .descriptor = descriptor,
      .submission_head = (uint32_t *)(mapping + parameters.sq_off.head),
      .submission_tail = (uint32_t *)(mapping + parameters.sq_off.tail),
      .submission_flags = (uint32_t *)(mapping + parameters.sq_off.flags),
      .submission_count = parameters.sq_entries,
      .submissions = entries,
      .completion_head = (uint32_t *)(mapping + parameters.cq_off.head),
      .completion_tail = (uint32_t *)(mapping + parameters.cq_off.tail),
      .completion_count = parameters.cq_entries,
      .completions = (struct io_uring_cqe *)(mapping + parameters.cq_off.cqes),
      .mapping = mapping,
      .mapping_size = size,
  };
  if (has_array) {
    uint32_t *array = (uint32_t *)(mapping + parameters.sq_off.array);
    for (uint32_t index = 0; index < parameters.sq_entries; index++) array[index] = index;
  }
  return 0;
}

void lifeguard_ring_close(struct lifeguard_ring *ring) {
  munmap(ring->submissions, ring->submission_count * sizeof(struct io_uring_sqe));
  munmap(ring->mapping, ring->mapping_size);
  close(ring->descriptor);
}

int lifeguard_ring_submit(struct lifeguard_ring *ring, uint32_t submissions) {
  return syscall(__NR_io_uring_enter, ring->descriptor, submissions, 0, 0, NULL, 0) < 0 ? errno : 0;
}

int lifeguard_ring_wait(
    struct lifeguard_ring *ring, uint32_t submissions, uint32_t completions, int64_t timeout_nanoseconds) {
  struct __kernel_timespec timeout = {
      .tv_sec = timeout_nanoseconds / 1000000000, .tv_nsec = timeout_nanoseconds % 1000000000};
  struct io_uring_getevents_arg argument = {
      .ts = timeout_nanoseconds < 0 ? 0 : (uint64_t)(uintptr_t)&timeout};
  long outcome = syscall(
      __NR_io_uring_enter, ring->descriptor, submissions, completions,
      IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG, &argument, sizeof argument);
  return outcome < 0 ? errno : 0;
}

int lifeguard_ring_provide(struct lifeguard_ring *ring, void *buffers, uint32_t count, uint16_t group) {
  struct io_uring_buf_reg registration = {
      .ring_addr = (uint64_t)(uintptr_t)buffers, .ring_entries = count, .bgid = group};
  long outcome =
      syscall(__NR_io_uring_register, ring->descriptor, IORING_REGISTER_PBUF_RING, &registration, 1);
  return outcome < 0 ? errno : 0;
}

void *lifeguard_map_pages(size_t size) {
  void *pages = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return pages == MAP_FAILED ? NULL : pages;
}

void lifeguard_unmap_pages(void *pages, size_t size) { munmap(pages, size); }
