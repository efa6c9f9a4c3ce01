/// What a client has on its server connection that no other connection has, so that it keeps it between transactions.
public struct PinReasons: OptionSet, Hashable, Sendable {
  public let rawValue: UInt16

  public init(rawValue: UInt16) { self.rawValue = rawValue }

  /// A statement prepared by the protocol that is not shared: it is too long, or sharing is off.
  public static let statement = Self(rawValue: 1 << 0)
  /// An unnamed statement that has been parsed and not used yet.
  public static let unnamedStatement = Self(rawValue: 1 << 1)
  /// PREPARE.
  public static let sqlStatement = Self(rawValue: 1 << 2)
  /// Temporary tables, and whatever else is in the schema pg_temp.
  public static let temporary = Self(rawValue: 1 << 3)
  public static let listening = Self(rawValue: 1 << 4)
  /// An advisory lock of the session.
  public static let advisoryLock = Self(rawValue: 1 << 5)
  /// DECLARE … WITH HOLD.
  public static let heldCursor = Self(rawValue: 1 << 6)
  /// LOAD. It cannot be taken back.
  public static let library = Self(rawValue: 1 << 7)
  /// A setting was changed whose name no text shows.
  public static let setting = Self(rawValue: 1 << 8)
  /// currval or lastval of sequences that an earlier transaction used.
  public static let sequences = Self(rawValue: 1 << 9)
  /// The server could not be asked what is left.
  public static let unknown = Self(rawValue: 1 << 10)

  /// What the server can be asked about.
  static let inspected: PinReasons = [.sqlStatement, .temporary, .listening, .advisoryLock, .heldCursor]
}

extension StatementEffects {
  /// What may be left on the connection after a text with these effects.
  public var pins: PinReasons {
    var pins: PinReasons = []
    if contains(.prepares) { pins.insert(.sqlStatement) }
    if contains(.createsTemporary) { pins.insert(.temporary) }
    if contains(.listens) { pins.insert(.listening) }
    if contains(.locksAdvisory) { pins.insert(.advisoryLock) }
    if contains(.declaresHoldCursor) { pins.insert(.heldCursor) }
    if contains(.loads) { pins.insert(.library) }
    return pins
  }

  /// What may be gone from the connection after a text with these effects.
  var unpins: PinReasons {
    if contains(.discardsAll) { return .inspected }
    var pins: PinReasons = []
    if contains(.deallocates) { pins.insert(.sqlStatement) }
    if !isDisjoint(with: [.drops, .discardsTemporary]) { pins.insert(.temporary) }
    if contains(.unlistens) { pins.insert(.listening) }
    if contains(.unlocksAdvisory) { pins.insert(.advisoryLock) }
    if contains(.closesCursor) { pins.insert(.heldCursor) }
    return pins
  }

  /// The text may run what it does not show, and that may have changed the session.
  public var mayHide: Bool {
    !isDisjoint(with: [.callsUnknownFunction, .callsProcedure, .executes, .isUnclear])
  }

  /// It may be nothing but an EXECUTE or DEALLOCATE.
  var namesStatement: Bool {
    !isDisjoint(with: [.executes, .deallocates]) && !contains(.hasSeveralStatements)
  }

  /// `TouchedSettings` says which.
  var touchesSettings: Bool { !isDisjoint(with: [.setsSession, .setsLocal, .resetsAll]) }

  /// What is of no interest to anybody but the transaction.
  private static let plain: StatementEffects = [
    .begins, .ends, .setsSavepoint, .rollsBackToSavepoint, .releasesSavepoint, .notifies, .copiesIn, .copiesOut,
    .hasSeveralStatements, .discardsPlans,
  ]

  /// The session cannot have changed.
  var isHarmless: Bool { isSubset(of: StatementEffects.plain) }
}
