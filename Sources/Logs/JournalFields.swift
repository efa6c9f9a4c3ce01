public import Settings

extension LogRecord {
  /// As fields of the systemd journal, each `NAME=value` in UTF-8 (systemd.journal-fields(7), sd_journal_sendv(3)). The
  /// fields are in `MESSAGE` too, because that is all that most readers show, and each by itself as `LIFEGUARD_NAME`, to
  /// search by: `journalctl LIFEGUARD_POOL=app/alice`. A value may hold anything; the journal takes line ends.
  public var journalFields: [[UInt8]] {
    let own = [
      Field("MESSAGE", text), Field("PRIORITY", String(level.journalPriority)),
      Field("SYSLOG_IDENTIFIER", "lifeguard"),
    ]
    return (own + fields.map { Field($0.journalName, $0.value) }).map { Array("\($0.name)=\($0.value)".utf8) }
  }
}

extension LogRecord.Field {
  /// The longest name that the journal takes (bytes).
  private static let longestJournalName = 64

  /// The journal takes names of upper-case letters, digits and underscores that do not begin with an underscore.
  fileprivate var journalName: String {
    let allowed = name.uppercased().unicodeScalars.map { scalar in
      ("A"..."Z").contains(scalar) || ("0"..."9").contains(scalar) ? Character(scalar) : "_"
    }
    return String(("LIFEGUARD_" + String(allowed)).prefix(Self.longestJournalName))
  }
}

extension LogLevel {
  /// The priority of syslog and the journal: 2 critical to 7 debug.
  public var journalPriority: Int {
    switch self {
    case .critical: 2
    case .error: 3
    case .warning: 4
    case .notice: 5
    case .info: 6
    case .debug, .trace: 7
    }
  }
}
