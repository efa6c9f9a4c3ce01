/// A socket between two event loops: everything of a connection that the next loop has to go on with.
///
/// It is not `Sendable`, because of the TLS stream in it. It may go to another thread all the same, once: whoever hands it
/// over has to see that the old thread keeps nothing of it.
public struct ReleasedSocket {
  /// The descriptor, still connected.
  public let descriptor: Int32
  /// TLS, with what it holds in both directions; nil for a connection in clear.
  public let tls: TLSStream?

  /// The loop closes the descriptor in the end.
  let isOwned: Bool
  /// What the owner had queued and TLS, or the kernel, has not taken.
  let unsent: [UInt8]
  /// What was received in clear and the owner has not been given.
  let unread: [UInt8]

  init(descriptor: Int32, isOwned: Bool, tls: TLSStream?, unsent: [UInt8], unread: [UInt8]) {
    self.descriptor = descriptor
    self.isOwned = isOwned
    self.tls = tls
    self.unsent = unsent
    self.unread = unread
  }

  /// What is known of the peer while nobody watches.
  public enum State {
    case quiet
    /// Bytes have come that nobody has been given.
    case hasInput
    /// It has closed the connection, or that is broken.
    case ended
  }

  /// Asks the kernel.
  public var state: State {
    switch System.peek(descriptor) {
    case .bytes(0), .failed: .ended
    case .bytes: .hasInput
    case .wouldBlock: unread.isEmpty && tls?.isHolding != true ? .quiet : .hasInput
    }
  }

  /// Closes (or gives back) what no loop will adopt. What was unsent is lost.
  public func close() {
    tls?.detach(from: descriptor)
    if isOwned { System.closeDescriptor(descriptor) }
  }
}
