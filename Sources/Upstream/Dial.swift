import CLibpq
import CLinux
import Glibc

/// One dial on the thread that carries it out: goes through the hosts and their addresses with one deadline over all,
/// and drives libpq for each address.
///
/// libpq goes through hosts by itself, but its non-blocking interface has no way to say "give up this one, try the
/// next". So it is given one address at a time, together with the host's name (for `.pgpass`). The rules for when
/// another host is tried are libpq's; in addition, a connection that ends before authentication leads to the next host.
///
/// Shares: with n hosts left, each may use 1/n of the time left; within a host the same holds for its addresses.
/// `prefer-standby` is two rounds, first "standby", then "any" for the hosts that answered in the first; one more share
/// is kept back for the second round.
struct Dial {
  let target: ConnectionTarget
  /// Nanoseconds of CLOCK_MONOTONIC.
  let deadline: Int64
  /// Readable as soon as the dial is to end.
  let wakeDescriptor: Int32

  private var attempts: [DialAttempt] = []

  init(target: ConnectionTarget, deadline: Int64, wakeDescriptor: Int32) {
    self.target = target
    self.deadline = deadline
    self.wakeDescriptor = wakeDescriptor
  }

  /// Carries the dial out. Blocks until the deadline at the latest, or longer where a name does not resolve.
  mutating func run() -> Result<ServerLink, DialFailure> {
    guard Clock.now() < deadline else {
      return .failure(DialFailure(.timeout, "timeout expired while the connection attempt waited for others"))
    }
    let hosts = target.shufflesHosts ? target.hosts.shuffled() : target.hosts
    guard target.sessionAttributes == .preferStandby else {
      return attempt(hosts, attributes: target.sessionAttributes, sharesKept: 0) ?? failure()
    }
    if hosts.count > 1 {
      if let result = attempt(hosts, attributes: .standby, sharesKept: 1) { return result }
    }
    let answering = hosts.count == 1 ? hosts : attempts.filter { $0.kind == .wrongRole }.map(\.host)
    // Not being a standby was no failure; how these hosts fare in the second round counts.
    attempts.removeAll { $0.kind == .wrongRole }
    return attempt(answering, attributes: .any, sharesKept: 0) ?? failure()
  }

  private func failure() -> Result<ServerLink, DialFailure> {
    .failure(DialFailure(attempts: attempts))
  }

  /// One round through the hosts. nil: all were tried in vain.
  private mutating func attempt(
    _ hosts: [UpstreamHost], attributes: ConnectionTarget.SessionAttributes, sharesKept: Int
  ) -> Result<ServerLink, DialFailure>? {
    for (index, host) in hosts.enumerated() {
      let limit = share(of: deadline, among: hosts.count - index + sharesKept)
      if let result = attempt(host, attributes: attributes, limit: limit) { return result }
    }
    return nil
  }

  /// The addresses of one host. nil: in vain, and another host may do better.
  private mutating func attempt(
    _ host: UpstreamHost, attributes: ConnectionTarget.SessionAttributes, limit: Int64
  ) -> Result<ServerLink, DialFailure>? {
    let addresses: [String?]
    if host.isUnixSocket || host.address != nil {
      addresses = [host.address]
    } else {
      switch HostAddresses.resolve(host.name) {
      case .success(let found): addresses = found
      case .failure(let failure):
        let text = "could not translate host name \"\(host.name)\" to address: \(failure.text)"
        attempts.append(DialAttempt(host: host, address: nil, kind: .unreachable, sqlState: nil, text: text))
        return isWoken() ? cancelled() : nil
      }
    }
    for (index, address) in addresses.enumerated() {
      var addressLimit = share(of: limit, among: addresses.count - index)
      if let timeout = target.addressTimeoutNanoseconds { addressLimit = min(addressLimit, Clock.now() + timeout) }
      let exchange = LibpqExchange(
        options: options(host, address, attributes), host: host, address: address, upstream: target.upstream,
        earlier: attempts, limit: addressLimit, wakeDescriptor: wakeDescriptor)
      switch exchange.run() {
      case .connected(let link): return .success(link)
      case .woken: return cancelled()
      case .failed(let attempt):
        attempts.append(attempt)
        guard attempt.kind.allowsNextHost else { return failure() }
        // Only where the address itself is silent may another address of the same host do better.
        guard attempt.kind == .unreachable || attempt.kind == .timeout else { return nil }
      }
    }
    return nil
  }

  private func options(
    _ host: UpstreamHost, _ address: String?, _ attributes: ConnectionTarget.SessionAttributes
  ) -> [ConnectionOption] {
    var options = target.options
    options.append(ConnectionOption(keyword: "host", value: host.name))
    if let address { options.append(ConnectionOption(keyword: "hostaddr", value: address)) }
    options.append(ConnectionOption(keyword: "port", value: String(host.port)))
    options.append(ConnectionOption(keyword: "target_session_attrs", value: attributes.rawValue))
    return options
  }

  private func share(of limit: Int64, among count: Int) -> Int64 {
    let now = Clock.now()
    return now + max(0, limit - now) / Int64(count)
  }

  private func cancelled() -> Result<ServerLink, DialFailure> {
    .failure(DialFailure(.cancelled, "the connection attempt was cancelled", after: attempts))
  }

  private func isWoken() -> Bool {
    var waiting = pollfd(fd: wakeDescriptor, events: Int16(POLLIN), revents: 0)
    return unsafe poll(&waiting, 1, 0) > 0
  }
}
