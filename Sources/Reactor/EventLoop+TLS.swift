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
    tls.keep(slot.held.bytes)
    slot.held.release(to: blocks)
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

  /// Bytes of the stream came in.
  func arrived(_ bytes: UnsafeRawBufferPointer, _ slot: Slot, _ connection: Connection, _ tls: TLSStream) {
    if tls.isHolding { tls.keep(unsafe Span(_unsafeBytes: bytes)) } else { unsafe tls.offer(bytes) }
    deliver(slot, connection, tls)
  }

  /// Decrypts and hands over, until more must be received or until the owner wants no more: it may stop receiving,
  /// release or close the connection whenever it is told something.
  func deliver(_ slot: Slot, _ connection: Connection, _ tls: TLSStream) {
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
        guard slot.takesInput else { return tls.keepInput() }
      case .ended(let reason):
        guard slot.takesInput else { return }
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
    slot.consumeOutgoing(unsafe transfer(slot.outgoing, on: slot), blocks)
  }

  private func encrypt(_ bytes: Span<UInt8>, on slot: Slot, _ tls: TLSStream) {
    guard let reason = tls.encrypt(bytes) else { return }
    transferRecords(slot, tls)
    failOutput(slot, reason)
  }
}
