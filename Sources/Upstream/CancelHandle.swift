import CLibpq

/// What it takes to cancel the query of one server connection: libpq's copy of its address and cancel key. It outlives
/// the connection.
///
/// Unchecked, because it holds a pointer: `PQcancel` only reads what it points to (libpq documents it as safe from any
/// thread and from signal handlers), nothing else uses it, and it is freed with the last reference.
@safe public final class CancelHandle: @unchecked Sendable {
  /// The lane of its requests: see `ConnectionTarget.upstream`.
  public let upstream: String
  private let pointer: OpaquePointer

  /// Takes over the result of `PQgetCancel`.
  init(_ pointer: OpaquePointer, upstream: String) {
    unsafe self.pointer = pointer
    self.upstream = upstream
  }

  deinit { unsafe PQfreeCancel(pointer) }

  /// Sends the request and waits until the server has closed that connection, however long it takes.
  func cancelBlocking() -> CancelOutcome {
    unsafe withUnsafeTemporaryAllocation(of: CChar.self, capacity: 256) { buffer in
      unsafe buffer.initialize(repeating: 0)
      if unsafe PQcancel(pointer, buffer.baseAddress, Int32(buffer.count)) == 1 { return .delivered }
      return .failed(unsafe LibpqText.oneLine(String(cString: buffer.baseAddress!)))
    }
  }
}

/// What became of a cancel request.
public enum CancelOutcome: Sendable, Hashable {
  /// The server has read it and passed it on. Whether a query was still running is not known.
  case delivered
  /// The request could not be sent; libpq's words in one line.
  case failed(String)
  /// `Cancellers.stop()` came before the request was sent.
  case stopped
}
