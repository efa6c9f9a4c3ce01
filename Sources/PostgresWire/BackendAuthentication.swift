extension Backend {
  /// The messages with type byte `R`: what the server wants to see before it lets a client in, or that it does.
  public enum Authentication: Equatable, Sendable {
    /// AuthenticationOk
    case ok
    /// AuthenticationKerberosV5
    case kerberosV5
    /// AuthenticationCleartextPassword
    case cleartextPassword
    /// AuthenticationMD5Password, with its four bytes of salt.
    case md5Password(salt: UInt32)
    /// AuthenticationGSS
    case gss
    /// AuthenticationGSSContinue, with GSSAPI or SSPI data.
    case gssContinue(Range<Int>)
    /// AuthenticationSSPI
    case sspi
    /// AuthenticationSASL, with the names of the mechanisms in the server's order. The list is copied.
    case sasl(mechanisms: [Range<Int>])
    /// AuthenticationSASLContinue, with the mechanism's data.
    case saslContinue(Range<Int>)
    /// AuthenticationSASLFinal, with the mechanism's data.
    case saslFinal(Range<Int>)
    /// A request that this protocol version does not define; what follows the code is not checked.
    case other(code: UInt32)

    /// Reads a body.
    public init(body: Span<UInt8>) throws(WireError) {
      var reader = FieldReader("Authentication")
      let code = try reader.uint32("code", in: body)
      switch Code(rawValue: code) {
      case .ok: self = .ok
      case .kerberosV5: self = .kerberosV5
      case .cleartextPassword: self = .cleartextPassword
      case .md5Password: self = .md5Password(salt: try reader.uint32("salt", in: body))
      case .gss: self = .gss
      case .gssContinue: self = .gssContinue(reader.rest(in: body))
      case .sspi: self = .sspi
      case .sasl:
        var mechanisms: [Range<Int>] = []
        while true {
          let mechanism = try reader.text("mechanisms", in: body)
          if mechanism.isEmpty { break }
          mechanisms.append(mechanism)
        }
        self = .sasl(mechanisms: mechanisms)
      case .saslContinue: self = .saslContinue(reader.rest(in: body))
      case .saslFinal: self = .saslFinal(reader.rest(in: body))
      case nil:
        _ = reader.rest(in: body)
        self = .other(code: code)
      }
      try reader.end(in: body)
    }

    fileprivate enum Code: UInt32 {
      case ok = 0
      case kerberosV5 = 2
      case cleartextPassword = 3
      case md5Password = 5
      case gss = 7
      case gssContinue = 8
      case sspi = 9
      case sasl = 10
      case saslContinue = 11
      case saslFinal = 12
    }
  }
}

/// Kerberos, GSSAPI and SSPI are recognised but not offered, so nothing writes them.
extension MessageWriter {
  /// AuthenticationOk
  public mutating func authenticationOk() {
    authentication(.ok) { _ in }
  }

  /// AuthenticationCleartextPassword
  public mutating func authenticationCleartextPassword() {
    authentication(.cleartextPassword) { _ in }
  }

  /// AuthenticationMD5Password
  public mutating func authenticationMD5Password(salt: UInt32) {
    authentication(.md5Password) { $0.uint32(salt) }
  }

  /// AuthenticationSASL, mechanisms in the order of preference, none of them empty.
  public mutating func authenticationSASL(mechanisms: [WireText]) {
    authentication(.sasl) {
      for mechanism in mechanisms {
        precondition(!mechanism.isEmpty, "an empty name would end the list of mechanisms")
        $0.text(mechanism)
      }
      $0.uint8(0)
    }
  }

  /// AuthenticationSASLContinue
  public mutating func authenticationSASLContinue(_ data: [UInt8]) {
    authentication(.saslContinue) { $0.raw(data) }
  }

  /// AuthenticationSASLFinal
  public mutating func authenticationSASLFinal(_ data: [UInt8]) {
    authentication(.saslFinal) { $0.raw(data) }
  }

  private mutating func authentication(
    _ code: Backend.Authentication.Code, body: (inout MessageWriter) -> Void
  ) {
    message(BackendType.authentication) {
      $0.uint32(code.rawValue)
      body(&$0)
    }
  }
}
