import CLinux
import Foundation
import Synchronization

/// A listener on loopback that plays the server: each connection it accepts is given to the script, on a thread of its
/// own. Without a script it accepts into its backlog and never answers.
final class ScriptedPeer: Sendable {
  let port: UInt16
  private let listener: Int32
  private let isScripted: Bool

  init(script: (@Sendable (Connection) -> Void)? = nil) {
    (listener, port) = Self.listen()
    isScripted = script != nil
    guard let script else { return }
    let listener = listener
    Thread.detachNewThread {
      while true {
        let descriptor = accept(listener, nil, nil)
        guard descriptor >= 0 else {
          // Closed here, not in `stop`: else a late `accept` could meet the next socket under the same number.
          _ = close(listener)
          return
        }
        Thread.detachNewThread {
          let connection = Connection(descriptor: descriptor)
          script(connection)
          _ = close(descriptor)
        }
      }
    }
  }

  var conninfo: String { "host=127.0.0.1 port=\(port) user=app dbname=app sslmode=disable" }

  /// Ends the listener and resets what waits in its backlog.
  func stop() {
    _ = shutdown(listener, Int32(SHUT_RDWR))
    if !isScripted { _ = close(listener) }
  }

  /// A port on which nobody listens (most likely).
  static func freePort() -> UInt16 {
    let (listener, port) = listen()
    _ = close(listener)
    return port
  }

  private static func listen() -> (Int32, UInt16) {
    let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
    var length = socklen_t(MemoryLayout<sockaddr_in>.size)
    unsafe withUnsafeMutablePointer(to: &address) { pointer in
      unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { pointer in
        precondition(unsafe bind(descriptor, pointer, length) == 0)
        precondition(CLinux.listen(descriptor, 64) == 0)
        unsafe getsockname(descriptor, pointer, &length)
      }
    }
    return (descriptor, UInt16(bigEndian: address.sin_port))
  }
}

/// Frames over a blocking or non-blocking socket, for scripts and for borrowers.
struct Connection: Sendable {
  let descriptor: Int32

  /// Reads one message without a type byte: the startup packet.
  func readStartup() -> [UInt8]? {
    guard let header = read(4) else { return nil }
    return read(Self.length(header) - 4)
  }

  /// Reads one typed message; nil at EOF.
  func readMessage() -> (type: Character, body: [UInt8])? {
    guard let header = read(5), let body = read(Self.length(header.dropFirst()) - 4) else { return nil }
    return (Character(UnicodeScalar(header[0])), body)
  }

  /// Reads messages up to and including the first of this type; nil where EOF comes first.
  func readMessages(upTo type: Character) -> [(type: Character, body: [UInt8])]? {
    var messages: [(type: Character, body: [UInt8])] = []
    while let message = readMessage() {
      messages.append(message)
      if message.type == type { return messages }
    }
    return nil
  }

  @discardableResult
  func send(_ type: Character, _ body: [UInt8] = []) -> Bool {
    send([type.asciiValue!] + Self.int32(Int32(body.count + 4)) + body)
  }

  /// Returns false where the other side takes nothing any more.
  @discardableResult
  func send(_ bytes: [UInt8]) -> Bool {
    let sent = unsafe bytes.withUnsafeBytes { bytes in
      unsafe Glibc.send(descriptor, bytes.baseAddress, bytes.count, Int32(MSG_NOSIGNAL))
    }
    precondition(sent == bytes.count || sent < 0)
    return sent >= 0
  }

  /// AuthenticationOk, a NoticeResponse where one is asked for, ParameterStatus, BackendKeyData, ReadyForQuery.
  func welcome(processID: Int32 = 4711, notice: String? = nil) {
    send("R", Self.int32(0))
    if let notice { send("N", Array("SNOTICE\u{0}C00000\u{0}M\(notice)\u{0}\u{0}".utf8)) }
    send("S", Array("server_version\u{0}15.4\u{0}".utf8))
    send("K", Self.int32(processID) + Self.int32(1))
    send("Z", [UInt8(ascii: "I")])
  }

  func sendError(_ sqlState: String, _ text: String) {
    send(
      "E", Array("SFATAL\u{0}VFATAL\u{0}C\(sqlState)\u{0}M\(text)\u{0}Fpostmaster.c\u{0}L1\u{0}Rmain\u{0}\u{0}".utf8))
  }

  /// Sends nothing more; the other side sees the end.
  func finishOutput() { _ = shutdown(descriptor, Int32(SHUT_WR)) }

  /// Blocks until the other side has closed.
  func waitForEnd() {
    while read(1) != nil {}
  }

  private func read(_ count: Int) -> [UInt8]? {
    var bytes: [UInt8] = []
    while bytes.count < count {
      var piece = [UInt8](repeating: 0, count: count - bytes.count)
      let received = unsafe piece.withUnsafeMutableBytes { unsafe recv(descriptor, $0.baseAddress, $0.count, 0) }
      if received < 0, errno == EAGAIN {
        var waiting = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
        guard unsafe poll(&waiting, 1, 30_000) > 0 else { return nil }
        continue
      }
      guard received > 0 else { return nil }
      bytes += piece[..<received]
    }
    return bytes
  }

  static func int32(_ value: Int32) -> [UInt8] {
    let bits = UInt32(bitPattern: value)
    return [24, 16, 8, 0].map { UInt8(truncatingIfNeeded: bits >> UInt32($0)) }
  }

  private static func length(_ bytes: some Sequence<UInt8>) -> Int {
    bytes.reduce(0) { $0 << 8 | Int($1) }
  }
}
