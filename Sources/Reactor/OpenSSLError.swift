import COpenSSL

/// OpenSSL's account of what went wrong: a queue of errors of each thread, emptied before each call whose outcome
/// matters, because an old error would be taken for a new one.
enum OpenSSLError {
  /// Empties the thread's queue.
  static func clear() { ERR_clear_error() }

  /// The oldest error of the thread's queue, which is the cause of those after it, in OpenSSL's words and on one line.
  /// The queue is empty afterwards.
  static func take() -> String {
    let code = ERR_get_error()
    defer { clear() }
    if code == 0 { return "unknown error" }
    if ERR_GET_LIB(code) == ERR_LIB_SYS { return System.describe(ERR_GET_REASON(code)) }
    guard let reason = unsafe ERR_reason_error_string(code) else { return "error \(String(code, radix: 16))" }
    return unsafe String(cString: reason)
  }
}
