/// What somebody may do on the admin console.
public enum AdminPrivilege: Int, Sendable, Comparable {
  /// Nothing.
  case none
  /// Commands that change nothing.
  case show
  /// Everything.
  case change

  /// The one that allows less is the smaller one.
  public static func < (left: AdminPrivilege, right: AdminPrivilege) -> Bool { left.rawValue < right.rawValue }

  /// What a user may do who connected to the database `lifeguard`.
  ///
  /// Under trust anybody can take any name: then everybody may look, and nobody may change anything.
  ///
  /// - Parameters:
  ///   - isProven: whether the user was authenticated otherwise than by trust.
  ///   - users: `[admin] users`.
  ///   - statsUsers: `[admin] stats_users`.
  public static func onConsole(
    user: String, isProven: Bool, users: [String], statsUsers: [String]
  ) -> AdminPrivilege {
    guard isProven else { return .show }
    // Byte by byte, as PostgreSQL tells roles apart.
    func names(_ list: [String]) -> Bool { list.contains { $0.utf8.elementsEqual(user.utf8) } }
    if names(users) { return .change }
    return names(statsUsers) ? .show : .none
  }

  /// What a process may do that connected to the admin socket: user id 0 and the daemon's own may do everything.
  public static func onSocket(peerUserID: UInt32, daemonUserID: UInt32) -> AdminPrivilege {
    peerUserID == 0 || peerUserID == daemonUserID ? .change : .show
  }

  /// Makes sure that a command is allowed.
  ///
  /// - Throws: 42501, insufficient_privilege.
  public func check(_ command: AdminCommand) throws(AdminError) {
    switch self {
    case .change: return
    case .show:
      guard command.changes else { return }
      throw AdminError(
        sqlState: "42501", message: "permission denied for \(command.tag)",
        hint: "Commands that change something are for [admin] users who have proven who they are (not by trust), "
          + "and for root and the daemon's own user on the admin socket.")
    case .none:
      throw AdminError(
        sqlState: "42501", message: "permission denied for the admin console",
        hint: "It is open to [admin] users and stats_users.")
    }
  }
}
