import Admin
import ArgumentParser
import Glibc
import Settings

/// `lifeguard admin`: one command over the admin socket.
struct AdminCommandLine: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "admin",
    abstract: "Send one admin command to the running daemon.",
    discussion: """
      'SHOW HELP' lists the commands. Exits with 1 where the daemon refuses the command, with 2 where it cannot be \
      reached.
      """)

  @Option(
    help: ArgumentHelp(
      "The admin socket.",
      discussion: "Without it: \(AdminSettings.defaultSocket), then $XDG_RUNTIME_DIR/lifeguard/admin.sock."))
  var socket: String?

  @Flag(help: "Print JSON instead of a table.")
  var json = false

  @Argument(help: "The command, such as 'SHOW POOLS'.")
  var command: [String]

  func run() throws {
    let request = AdminRequest(command: command.joined(separator: " "), wantsJSON: json)
    let answer: String
    do {
      answer = try AdminClient.ask(request, sockets: socket.map { [$0] } ?? AdminSocketPaths.all)
    } catch {
      StandardError.write("\(error)")
      throw ExitCode(2)
    }
    let isError = answer.hasPrefix(AdminAnswer.errorPrefix) || answer.hasPrefix(AdminAnswer.jsonErrorPrefix)
    guard isError else { return Swift.print(answer, terminator: "") }
    // JSON is for a program, which reads the output.
    if json { Swift.print(answer, terminator: "") } else { StandardError.write(String(answer.dropLast())) }
    throw ExitCode.failure
  }
}

/// Where the admin socket is when no setting names it.
enum AdminSocketPaths {
  /// In the order in which they are tried.
  static var all: [String] {
    let own = unsafe getenv("XDG_RUNTIME_DIR").map { unsafe String(cString: $0) }
    return [AdminSettings.defaultSocket] + (own.map { ["\($0)/lifeguard/admin.sock"] } ?? [])
  }
}

/// Asks the running daemon.
enum AdminClient {
  struct Unreachable: Error, CustomStringConvertible {
    let attempts: [(path: String, error: Int32)]

    var description: String {
      let reasons = attempts.map { attempt in
        switch attempt.error {
        case ENOENT: "\(attempt.path): there is no such socket"
        case ECONNREFUSED: "\(attempt.path): nobody listens on it any more"
        case EACCES, EPERM: "\(attempt.path): permission denied (it is for root and the daemon's own user)"
        default: unsafe "\(attempt.path): \(String(cString: strerror(attempt.error)))"
        }
      }
      return "cannot reach the daemon: \(reasons.joined(separator: "; "))"
    }
  }

  /// Sends a request to the first socket that somebody listens on, and returns the answer.
  static func ask(_ request: AdminRequest, sockets: [String]) throws(Unreachable) -> String {
    var attempts: [(path: String, error: Int32)] = []
    for path in sockets {
      switch exchange(request.line, path) {
      case .success(let answer): return answer
      case .failure(let failure): attempts.append((path, failure.error))
      }
    }
    throw Unreachable(attempts: attempts)
  }

  private struct SystemError: Error {
    let error: Int32
  }

  private static func exchange(_ line: String, _ path: String) -> Result<String, SystemError> {
    let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
    guard descriptor >= 0 else { return .failure(SystemError(error: errno)) }
    defer { close(descriptor) }
    guard connect(descriptor, path) else { return .failure(SystemError(error: errno)) }
    var rest = Array(line.utf8)[...]
    while !rest.isEmpty {
      let sent = unsafe rest.withUnsafeBytes { bytes in
        unsafe send(descriptor, bytes.baseAddress, bytes.count, Int32(MSG_NOSIGNAL))
      }
      guard sent >= 0 else { return .failure(SystemError(error: errno)) }
      rest = rest.dropFirst(sent)
    }
    shutdown(descriptor, Int32(SHUT_WR))
    var answer: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 65_536)
    while true {
      let count = unsafe chunk.withUnsafeMutableBytes { bytes in
        unsafe read(descriptor, bytes.baseAddress, bytes.count)
      }
      if count < 0 && errno == EINTR { continue }
      guard count >= 0 else { return .failure(SystemError(error: errno)) }
      if count == 0 { break }
      answer += chunk.prefix(count)
    }
    return answer.isEmpty ? .failure(SystemError(error: ECONNRESET)) : .success(String(decoding: answer, as: UTF8.self))
  }

  private static func connect(_ descriptor: Int32, _ path: String) -> Bool {
    var address = sockaddr_un()
    let bytes = Array(path.utf8)
    guard bytes.count < MemoryLayout.size(ofValue: address.sun_path) else {
      errno = ENAMETOOLONG
      return false
    }
    address.sun_family = sa_family_t(AF_UNIX)
    unsafe withUnsafeMutableBytes(of: &address.sun_path) { unsafe $0.copyBytes(from: bytes) }
    return unsafe withUnsafePointer(to: address) { pointer in
      unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        unsafe Glibc.connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size)) == 0
      }
    }
  }
}
