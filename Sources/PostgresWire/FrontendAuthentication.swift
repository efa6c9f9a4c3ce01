/// Answers to authentication requests. They share one type byte: which one it is follows from the request.
extension Frontend {
  /// PasswordMessage: a password in clear, or an MD5 digest of it.
  public struct Password: Equatable, Sendable {
    /// The password.
    public let password: Range<Int>

    /// Reads a body.
    public init(body: Span<UInt8>) throws(WireError) {
      var reader = FieldReader("PasswordMessage")
      password = try reader.text("password", in: body)
      try reader.end(in: body)
    }
  }

  /// SASLInitialResponse: the mechanism chosen, and the first message of it.
  public struct SASLInitialResponse: Equatable, Sendable {
    /// The mechanism's name.
    public let mechanism: Range<Int>
    /// The mechanism's data; nil where there is none.
    public let response: Range<Int>?

    /// Reads a body.
    public init(body: Span<UInt8>) throws(WireError) {
      var reader = FieldReader("SASLInitialResponse")
      mechanism = try reader.text("mechanism", in: body)
      response = try reader.value("response", in: body)
      try reader.end(in: body)
    }
  }
}

extension MessageWriter {
  /// PasswordMessage
  public mutating func password(_ password: WireText) {
    message(FrontendType.password) { $0.text(password) }
  }

  /// SASLInitialResponse
  public mutating func saslInitialResponse(mechanism: WireText, response: [UInt8]?) {
    message(FrontendType.password) {
      $0.text(mechanism)
      $0.value(response)
    }
  }

  /// SASLResponse (and GSSResponse): the mechanism's data is the whole body.
  public mutating func saslResponse(_ data: [UInt8]) {
    message(FrontendType.password) { $0.raw(data) }
  }
}
