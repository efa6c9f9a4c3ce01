import CLinux
import CUring

/// The requests that the io_uring driver makes, as io_uring_enter(2) describes them.
extension lifeguard_submission {
  private init(_ operation: io_uring_op, _ descriptor: Int32, _ name: UInt64) {
    self.init()
    opcode = UInt8(operation.rawValue)
    self.descriptor = descriptor
    user_data = name
  }

  /// Bytes that come in, once, or each time until there is no buffer, an error or the end. They are in provided buffers.
  static func receive(from descriptor: Int32, repeatedly: Bool, name: UInt64) -> Self {
    var request = Self(IORING_OP_RECV, descriptor, name)
    request.flags = UInt8(1 << IOSQE_BUFFER_SELECT_BIT)
    if repeatedly { request.priority = UInt16(IORING_RECV_MULTISHOT) }
    request.buffer_group = ProvidedBuffers.group
    return request
  }

  /// Sends what has room at once. Reported only where that is not all (with MSG_WAITALL less than all is no success).
  /// The bytes are not used after the submission.
  static func send(_ bytes: UnsafeRawBufferPointer, to descriptor: Int32, name: UInt64) -> Self {
    var request = Self(IORING_OP_SEND, descriptor, name)
    request.flags = UInt8(1 << IOSQE_CQE_SKIP_SUCCESS_BIT)
    request.address = UInt64(UInt(bitPattern: bytes.baseAddress))
    request.length = UInt32(clamping: bytes.count)
    request.operation_flags = UInt32(MSG_DONTWAIT | MSG_WAITALL | MSG_NOSIGNAL)
    return request
  }

  /// Clients that come, until an error.
  static func accept(on descriptor: Int32, name: UInt64) -> Self {
    var request = Self(IORING_OP_ACCEPT, descriptor, name)
    request.priority = UInt16(IORING_ACCEPT_MULTISHOT)
    request.operation_flags = UInt32(SOCK_NONBLOCK.rawValue | SOCK_CLOEXEC.rawValue)
    return request
  }

  /// One of these events of poll(2), or one after the other; errors and hang-ups are always among them.
  static func poll(_ events: UInt32, of descriptor: Int32, repeatedly: Bool = false, name: UInt64) -> Self {
    var request = Self(IORING_OP_POLL_ADD, descriptor, name)
    request.operation_flags = events
    if repeatedly { request.length = IORING_POLL_ADD_MULTI }
    return request
  }

  /// Ends the request with that name, whose last completion then comes. Reported only where there is none.
  static func cancel(_ cancelled: UInt64, name: UInt64) -> Self {
    var request = Self(IORING_OP_ASYNC_CANCEL, -1, name)
    request.flags = UInt8(1 << IOSQE_CQE_SKIP_SUCCESS_BIT)
    request.address = cancelled
    return request
  }
}
