import Reactor
import Settings

/// The listeners of a daemon: those of the settings, and those that the service manager has opened.
///
/// A passed listener that is bound to an address of the settings is used instead of binding it again. One that no setting
/// names is served all the same.
struct ListenerSet {
  let listeners: [Listener]
  /// Addresses of passed listeners that other machines can reach.
  let remotePassed: [ListenEndpoint]

  /// Opens what is not open yet, for `users` event loops.
  init(
    _ settings: Settings, passed descriptors: [Int32], users: Int, log: (PoolEvent) -> Void
  ) throws(ListenError) {
    var passed: [Listener] = []
    var configured: [Listener] = []
    do throws(ListenError) {
      for descriptor in descriptors { passed.append(try Listener.passed(descriptor, users: users)) }
      for address in settings.server.listen {
        for listener in try Listener.open(ListenEndpoint(address), users: users, passed: passed)
        where !configured.contains(where: { $0 === listener }) {
          configured.append(listener)
        }
      }
      remotePassed = passed.map(\.endpoint).filter { !$0.isLocal }
      if let problem = ListenerSet.trustProblem(settings, remotePassed) { throw problem }
    } catch {
      let opened = passed + configured.filter { listener in !passed.contains { $0 === listener } }
      for listener in opened { for _ in 0..<users { listener.release() } }
      throw error
    }
    let others = passed.filter { listener in !configured.contains { $0 === listener } }
    for listener in passed {
      log(
        .listenerPassed(
          listener: listener.endpoint.description, isInSettings: !others.contains { $0 === listener }))
    }
    listeners = configured + others
    for listener in listeners { listener.watchOver(SilentPeers(settings.server)) }
  }

  /// What is wrong with settings that take everybody at their word, where other machines can reach a passed listener; the
  /// settings' own listeners have been checked with the settings.
  static func trustProblem(_ settings: Settings, _ remotePassed: [ListenEndpoint]) -> ListenError? {
    guard settings.auth.method == .trust, !settings.auth.allowRemoteTrust, let endpoint = remotePassed.first else {
      return nil
    }
    return ListenError(
      endpoint: endpoint,
      reason: "it was passed, and [auth] method = \"trust\" lets anybody who reaches it be any user; pass a "
        + "loopback address or a Unix socket, or set allow_remote_trust = true")
  }
}

extension SilentPeers {
  /// In the kernel's units; what is shorter than one of them counts as one.
  fileprivate init(_ settings: ServerSettings) {
    func whole(_ duration: Duration, of unit: Int64, atMost most: Int64) -> Int32 {
      Int32(min(max((duration.nanoseconds + unit - 1) / unit, 1), most))
    }
    let second: Int64 = 1_000_000_000
    self.init(
      idleSeconds: settings.tcpKeepIdle.map { whole($0, of: second, atMost: 32_767) },
      intervalSeconds: whole(settings.tcpKeepInterval, of: second, atMost: 32_767),
      count: Int32(settings.tcpKeepCount),
      unacknowledgedMilliseconds: settings.tcpUserTimeout.map { whole($0, of: 1_000_000, atMost: Int64(Int32.max)) })
  }
}
