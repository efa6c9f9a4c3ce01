import CLibpq

/// Collects the notices of a login, which libpq would print to stderr.
final class NoticeCollector {
  /// One line each, the first `ServerLink.noticeLimit`.
  private(set) var lines: [String] = []

  /// Collects from now on. The connection holds a reference until `detach(from:)`.
  init(_ connection: OpaquePointer) {
    unsafe _ = PQsetNoticeReceiver(
      connection,
      { context, result in
        unsafe Unmanaged<NoticeCollector>.fromOpaque(context!).takeUnretainedValue().append(result)
      }, Unmanaged.passRetained(self).toOpaque())
  }

  /// From now on notices of this connection are dropped. Once, and before the connection is finished.
  func detach(from connection: OpaquePointer) {
    unsafe _ = PQsetNoticeReceiver(connection, { _, _ in }, nil)
    unsafe Unmanaged.passUnretained(self).release()
  }

  private func append(_ result: OpaquePointer?) {
    guard lines.count < ServerLink.noticeLimit, let text = unsafe PQresultErrorMessage(result) else { return }
    lines.append(unsafe LibpqText.split(String(cString: text)).text)
  }
}
