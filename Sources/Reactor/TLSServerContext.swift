import COpenSSL
import Glibc

/// What TLS with clients cannot be set up with.
public struct TLSConfigurationError: Error, Equatable, Sendable {
  /// One of the files that the settings name.
  public enum File: Sendable {
    case certificate
    case key
    case authority
  }

  /// The file that is at fault.
  public var file: File
  /// One line, without secrets, mostly in OpenSSL's words.
  public var reason: String
}

/// Certificate, key and rules for TLS with clients. Read again from its files by making another one; connections keep the
/// one that their handshake began with.
///
/// The rules are PostgreSQL's (`be-secure-openssl.c`): TLS 1.2 at least, the server's order of ciphers, no renegotiation,
/// no compression, and no sessions to resume, because a client that comes back must prove its identity again. Key
/// exchange is left to OpenSSL's own list, which begins with X25519 and prime256v1 and grows with OpenSSL.
///
/// Unchecked: the `SSL_CTX` is never changed after `init`, and OpenSSL locks what it counts in there.
@safe public final class TLSServerContext: @unchecked Sendable {
  /// What is asked of clients.
  public enum ClientCertificates: Sendable {
    /// No certificate.
    case ignored
    /// A certificate that the authority has signed.
    case required
  }

  /// For TLS 1.2; those of TLS 1.3 are all good. Forward secrecy always; CBC last, for clients that have nothing else.
  private static let ciphers = "ECDHE+AESGCM:ECDHE+CHACHA20:ECDHE+AES"

  /// The name of PostgreSQL's protocol (IANA's registry of ALPN protocol identifiers).
  fileprivate static let protocolName: StaticString = "postgresql"

  /// The certificate's hash for SCRAM's channel binding `tls-server-end-point` (RFC 5929, section 4.1): by the hash of
  /// its signature, but SHA-256 instead of MD5 and SHA-1. nil where the signature has no hash of its own (Ed25519):
  /// channel binding is undefined then, as in PostgreSQL.
  public let endPointHash: [UInt8]?

  /// Whether clients need a certificate.
  let verifiesClients: Bool

  private let context: OpaquePointer

  /// Reads PEM files. A certificate that has expired is none of our business here: clients see it.
  ///
  /// - Parameters:
  ///   - certificateFile: the server's certificate, then those that lead to its root.
  ///   - keyFile: the key of that certificate, not encrypted.
  ///   - authorityFile: certificates of those who sign the clients'.
  public init(
    certificateFile: String, keyFile: String, authorityFile: String?, clientCertificates: ClientCertificates
  ) throws(TLSConfigurationError) {
    guard let context = unsafe SSL_CTX_new(TLS_server_method()) else { preconditionFailure("out of memory for TLS") }
    do {
      unsafe TLSServerContext.setRules(context)
      try unsafe TLSServerContext.loadCertificate(certificateFile, key: keyFile, into: context)
      try unsafe TLSServerContext.loadAuthority(authorityFile, clientCertificates, into: context)
    } catch {
      unsafe SSL_CTX_free(context)
      throw error
    }
    unsafe self.context = context
    verifiesClients = clientCertificates == .required
    unsafe endPointHash = TLSServerContext.endPointHash(of: SSL_CTX_get0_certificate(context))
  }

  deinit { unsafe SSL_CTX_free(context) }

  /// A new `SSL*` for the server's side; the caller frees it.
  func makeSSL() -> OpaquePointer {
    guard let ssl = unsafe SSL_new(context) else { preconditionFailure("out of memory for a TLS connection") }
    unsafe SSL_set_accept_state(ssl)
    return unsafe ssl
  }

  // MARK: Rules

  private static func setRules(_ context: OpaquePointer) {
    let hasVersion = unsafe lifeguard_ssl_ctx_set_min_proto_version(context, TLS1_2_VERSION) == 1
    let hasCiphers = unsafe SSL_CTX_set_cipher_list(context, ciphers) == 1
    precondition(hasVersion && hasCiphers, "OpenSSL has no TLS 1.2 with ECDHE and AES")
    unsafe SSL_CTX_set_options(
      context,
      lifeguard_ssl_op_no_renegotiation | lifeguard_ssl_op_no_compression | lifeguard_ssl_op_no_ticket
        | lifeguard_ssl_op_cipher_server_preference)
    // TLS 1.3 has tickets for sessions in the server's memory too.
    unsafe SSL_CTX_set_num_tickets(context, 0)
    unsafe lifeguard_ssl_ctx_set_session_cache_mode(context, Int(SSL_SESS_CACHE_OFF))
    unsafe lifeguard_ssl_ctx_set_mode(context, Int(SSL_MODE_RELEASE_BUFFERS))
    unsafe SSL_CTX_set_client_hello_cb(context, requireALPN, nil)
    unsafe SSL_CTX_set_alpn_select_cb(context, selectALPN, nil)
  }

  // MARK: Files

  private static func loadCertificate(
    _ certificateFile: String, key keyFile: String, into context: OpaquePointer
  ) throws(TLSConfigurationError) {
    var asksForPassphrase = false
    // OpenSSL would ask on the terminal.
    unsafe SSL_CTX_set_default_passwd_cb(context) { _, _, _, asked in
      unsafe asked?.assumingMemoryBound(to: Bool.self).pointee = true
      return -1
    }
    defer { unsafe SSL_CTX_set_default_passwd_cb_userdata(context, nil) }
    try unsafe withUnsafeMutablePointer(to: &asksForPassphrase) { (asked) throws(TLSConfigurationError) in
      unsafe SSL_CTX_set_default_passwd_cb_userdata(context, asked)
      try checkReadable(certificateFile, .certificate)
      OpenSSLError.clear()
      guard unsafe SSL_CTX_use_certificate_chain_file(context, certificateFile) == 1 else {
        throw TLSConfigurationError(file: .certificate, reason: OpenSSLError.take())
      }
      try checkReadable(keyFile, .key)
      OpenSSLError.clear()
      guard unsafe SSL_CTX_use_PrivateKey_file(context, keyFile, SSL_FILETYPE_PEM) == 1,
        unsafe SSL_CTX_check_private_key(context) == 1
      else {
        let words = OpenSSLError.take()
        let reason =
          unsafe asked.pointee ? "the key is encrypted, and there is nobody to ask for its passphrase" : words
        throw TLSConfigurationError(file: .key, reason: reason)
      }
    }
  }

  private static func loadAuthority(
    _ file: String?, _ clientCertificates: ClientCertificates, into context: OpaquePointer
  ) throws(TLSConfigurationError) {
    if let file {
      try checkReadable(file, .authority)
      OpenSSLError.clear()
      guard unsafe SSL_CTX_load_verify_locations(context, file, nil) == 1,
        let names = unsafe SSL_load_client_CA_file(file)
      else { throw TLSConfigurationError(file: .authority, reason: OpenSSLError.take()) }
      // Tells clients with several certificates which one to send.
      unsafe SSL_CTX_set_client_CA_list(context, names)
    }
    switch clientCertificates {
    case .ignored: break
    case .required:
      guard file != nil else {
        throw TLSConfigurationError(file: .authority, reason: "client certificates need an authority that signs them")
      }
      unsafe SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nil)
    }
  }

  /// OpenSSL's words for a file that cannot be read are many; the kernel's are few.
  private static func checkReadable(
    _ path: String, _ file: TLSConfigurationError.File
  ) throws(TLSConfigurationError) {
    let descriptor = unsafe open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { throw TLSConfigurationError(file: file, reason: System.describe(errno)) }
    System.closeDescriptor(descriptor)
  }

  private static func endPointHash(of certificate: OpaquePointer?) -> [UInt8]? {
    var algorithm: Int32 = 0
    guard unsafe X509_get_signature_info(certificate, &algorithm, nil, nil, nil) == 1 else { return nil }
    let isWeak = algorithm == NID_md5 || algorithm == NID_sha1
    guard let digest = unsafe isWeak ? EVP_sha256() : EVP_get_digestbyname(OBJ_nid2sn(algorithm)) else { return nil }
    var hash = [UInt8](repeating: 0, count: Int(EVP_MAX_MD_SIZE))
    var count: UInt32 = 0
    guard unsafe X509_digest(certificate, digest, &hash, &count) == 1 else { return nil }
    return Array(hash.prefix(Int(count)))
  }
}

// MARK: ALPN

/// Refuses a ClientHello without ALPN where it is required, as for PostgreSQL's `sslnegotiation=direct`: it keeps
/// attacks across protocols out (ALPACA).
private func requireALPN(
  _ ssl: OpaquePointer?, _ alert: UnsafeMutablePointer<Int32>?, _: UnsafeMutableRawPointer?
) -> Int32 {
  let stream = unsafe TLSTransport.stream(ofSSL: ssl)
  guard stream.requiresALPN else { return SSL_CLIENT_HELLO_SUCCESS }
  var value: UnsafePointer<UInt8>?
  var count = 0
  let type = UInt32(TLSEXT_TYPE_application_layer_protocol_negotiation)
  if unsafe SSL_client_hello_get0_ext(ssl, type, &value, &count) == 1 { return SSL_CLIENT_HELLO_SUCCESS }
  stream.refuse("the client does not offer ALPN \"\(TLSServerContext.protocolName)\"")
  unsafe alert?.pointee = SSL_AD_NO_APPLICATION_PROTOCOL
  return SSL_CLIENT_HELLO_ERROR
}

/// Answers a client that offers protocols: with PostgreSQL's, or else with the alert no_application_protocol.
///
/// - Parameter offers: names, each with its length in a byte before it.
private func selectALPN(
  _ ssl: OpaquePointer?, _ name: UnsafeMutablePointer<UnsafePointer<UInt8>?>?, _ length: UnsafeMutablePointer<UInt8>?,
  _ offers: UnsafePointer<UInt8>?, _ count: UInt32, _: UnsafeMutableRawPointer?
) -> Int32 {
  let offers = unsafe UnsafeBufferPointer(start: offers, count: Int(count))
  let wanted = unsafe UnsafeBufferPointer(
    start: TLSServerContext.protocolName.utf8Start, count: TLSServerContext.protocolName.utf8CodeUnitCount)
  var start = 0
  while start < offers.count {
    let end = unsafe start + 1 + Int(offers[start])
    guard end <= offers.count else { break }
    if unsafe offers[(start + 1)..<end].elementsEqual(wanted) {
      unsafe name?.pointee = wanted.baseAddress
      unsafe length?.pointee = UInt8(wanted.count)
      return SSL_TLSEXT_ERR_OK
    }
    start = end
  }
  return SSL_TLSEXT_ERR_ALERT_FATAL
}
