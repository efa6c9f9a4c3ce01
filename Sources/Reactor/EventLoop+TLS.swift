import Glibc

/// TLS on a loop's sockets. Bytes of a socket with a TLS stream take a turn through it, both ways; the owner notices
/// nothing of that but `Connection.secured` and `StreamEnd.tlsFailed`.
extension EventLoop {
  // MARK: Starting

  /// A client's connection becomes TLS, with this side as the server. What is queued for output leaves in clear before;
  /// what is queued from now on waits until the handshake is complete, and `Connection.secured` is called then.
  ///
  /// - Parameters:
  ///   - requiresALPN: the client has to offer ALPN "postgresql" (`sslnegotiation=direct`), or the handshake fails with
  ///     the alert no_application_protocol. Without it, ALPN is answered where it is offered, and one that offers
  ///     only other protocols is refused the same way.
  ///   - received: bytes of the TLS stream that the owner has got already.
  public func startTLS(
    on connection: Connection, _ context: TLSServerContext, requiresALPN: Bool, received: Span<UInt8>
  ) {
    guard let slot = slot(connection.socket) else { return }
    precondition(slot.tls == nil, "TLS inside of TLS")
    let tls = TLSStream(context, requiresALPN: requiresALPN)
    tls.prepend(&slot.output)
    take(tls, for: slot)
    tls.keep(received)
    if tls.isHolding { resumed.append(slot.id) }
  }

  /// The TLS stream of a connection; nil for one in clear.
  public func tls(of connection: Connection) -> TLSStream? { slot(connection.socket)?.tls }

  /// Goes on with a stream that is new to this loop.
  func take(_ tls: TLSStream, for slot: Slot) {
    tls.attach(to: blocks)
    slot.tls = tls
    if tls.isHolding { resumed.append(slot.id) }
    if !tls.ciphertext.isEmpty { markDirty(slot) }
  }

  // MARK: Input

  /// One receive. What the stream holds from before comes first; as long as it does, the kernel keeps what it has.
  func receive(_ slot: Slot, _ connection: Connection, _ tls: TLSStream) {
    let socket = slot.id
    // The kernel reports a broken connection also while receiving is stopped, and all of its bytes come before its end.
    let isForced = !slot.isReceiving
    if tls.isHolding {
      deliver(slot, connection, tls, isForced: isForced)
      guard slot.id == socket, !slot.isUnwatched, !tls.isHolding else { return }
    }
    switch unsafe System.receive(slot.descriptor, into: scratch) {
    case .bytes(0): end(slot, connection, .endOfStream)
    case .bytes(let count):
      unsafe tls.offer(UnsafeRawBufferPointer(rebasing: scratch[..<count]))
      deliver(slot, connection, tls, isForced: isForced)
    case .wouldBlock: break
    case .failed(let error): end(slot, connection, .failed(error))
    }
  }

  /// Hands over what streams hold whose sockets are received from again. No handler runs inside another, so this waits
  /// for its place in the turn.
  func deliverHeld() {
    guard !resumed.isEmpty else { return }
    let sockets = resumed
    resumed.removeAll(keepingCapacity: true)
    for socket in sockets {
      guard let slot = slot(socket), !slot.isUnwatched, slot.isReceiving, let tls = slot.tls, tls.isHolding,
        case .connection(let connection) = slot.role
      else { continue }
      deliver(slot, connection, tls, isForced: false)
    }
  }

  /// Decrypts and hands over, until more must be received or until the owner wants no more: it may stop receiving,
  /// release or close the connection whenever it is told something.
  private func deliver(_ slot: Slot, _ connection: Connection, _ tls: TLSStream, isForced: Bool) {
    let socket = slot.id
    while true {
      let (count, stop) = unsafe tls.decrypt(into: plaintext)
      sendAnswers(slot, tls)
      if count > 0 {
        connection.received(unsafe Span(_unsafeBytes: UnsafeRawBufferPointer(rebasing: plaintext[..<count])))
      }
      if stop == .secured { connection.secured() }
      guard slot.id == socket, case .connection = slot.role else { return }
      switch stop {
      case .needsInput: return
      case .bufferFull, .secured:
        guard slot.isReceiving || isForced else { return tls.keepInput() }
      case .ended(let reason):
        guard slot.isReceiving || isForced else { return }
        if case .tlsFailed = reason { transferRecords(slot, tls) }
        return end(slot, connection, reason)
      }
    }
  }

  /// What OpenSSL itself has to say (handshake, new keys, alerts) leaves at the end of the turn.
  private func sendAnswers(_ slot: Slot, _ tls: TLSStream) {
    if slot.isBroken {
      tls.discardOutput()
    } else if !tls.ciphertext.isEmpty || (tls.isHandshakeComplete && !slot.output.isEmpty) {
      markDirty(slot)
    }
  }

  // MARK: Output

  /// Encrypts a large piece without a copy, and offers it to the kernel unless older records wait for that.
  ///
  /// - Returns: false where the piece has to wait for the handshake.
  func sendDirectly(_ bytes: Span<UInt8>, on slot: Slot, _ tls: TLSStream) -> Bool {
    guard tls.isHandshakeComplete else { return false }
    let isFirst = tls.ciphertext.isEmpty
    encrypt(bytes, on: slot, tls)
    if isFirst && !slot.isBroken { transferRecords(slot, tls) }
    if slot.isBroken {
      tls.discardOutput()
    } else if !tls.ciphertext.isEmpty {
      if tls.ciphertext.count > EventLoop.highWater { slot.isBacklogged = true }
      if isFirst { wantOutput(slot) }
    }
    return true
  }

  /// Encrypts what the owner has queued; before the handshake is complete it has to wait.
  func encryptOutput(_ slot: Slot, _ tls: TLSStream) {
    guard tls.isHandshakeComplete, !slot.output.isEmpty, !slot.isBroken else { return }
    encrypt(slot.output.bytes, on: slot, tls)
    slot.output.release(to: blocks)
  }

  /// What is queued and close_notify become records. Plaintext that still waits for the handshake is dropped.
  func endOutput(_ slot: Slot, _ tls: TLSStream) {
    guard !slot.isBroken else { return }
    encryptOutput(slot, tls)
    slot.output.release(to: blocks)
    tls.endOutput()
    if !tls.ciphertext.isEmpty { markDirty(slot) }
  }

  /// Offers records to the kernel.
  func transferRecords(_ slot: Slot, _ tls: TLSStream) {
    guard !tls.ciphertext.isEmpty else { return }
    tls.consume(transfer(tls.ciphertext.bytes, on: slot))
  }

  private func encrypt(_ bytes: Span<UInt8>, on slot: Slot, _ tls: TLSStream) {
    guard let reason = tls.encrypt(bytes) else { return }
    transferRecords(slot, tls)
    failOutput(slot, reason)
  }
}
