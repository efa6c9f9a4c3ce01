/// One host of the upstreams, as its probes and dials have found it.
public struct HostSnapshot: Sendable, Equatable {
  /// One of the last probes.
  public struct Check: Sendable, Equatable {
    /// `+` answered, `!` answered but refused the login, `-` failed.
    public var outcome: Character
    /// When it ended.
    public var time: UnixTime
    /// How long the answer took; nil where there was none.
    public var latencyMicroseconds: Int?

    public init(outcome: Character, time: UnixTime, latencyMicroseconds: Int?) {
      self.outcome = outcome
      self.time = time
      self.latencyMicroseconds = latencyMicroseconds
    }
  }

  /// The states of a host.
  public static let states = ["unknown", "up", "down"]
  /// The states of a circuit breaker.
  public static let breakerStates = ["closed", "open", "half_open"]

  /// `host:port`.
  public var host: String
  /// The databases whose upstreams name it, by name; `*` among them.
  public var databases: [String] = []
  /// One of ``states``: what the probes say.
  public var state = "unknown"
  /// One of ``breakerStates``: `closed` lets dials through.
  public var breaker = "closed"
  /// Whether it is probed: it is wanted, and a login is known.
  public var isProbed = false
  /// `primary` or `standby`; nil where that is not known.
  public var role: String?
  /// Whether transactions are read-only there.
  public var isReadOnly = false
  /// The last answer to a probe; nil before the first.
  public var latencyMicroseconds: Int?
  /// WAL that a standby has not replayed; nil for a primary, and where it is not known.
  public var lagBytes: Int64?
  /// How old a standby's data are; nil as above.
  public var lagMicroseconds: Int64?
  /// What the last probe complained of, without secrets; nil where it got its answer.
  public var lastError: String?
  /// Since when the host has been in its state; nil for `unknown`.
  public var since: UnixTime?
  /// Probes that were answered.
  public var answeredCount: UInt64 = 0
  /// Probes that were answered by a refusal of the login.
  public var refusedCount: UInt64 = 0
  /// Probes that failed.
  public var failedCount: UInt64 = 0
  /// The last probes, oldest first.
  public var history: [Check] = []

  /// A host that nothing is known of.
  public init(host: String) { self.host = host }
}
