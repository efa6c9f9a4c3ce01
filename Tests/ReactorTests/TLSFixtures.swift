import COpenSSL
import Glibc

@testable import Reactor

/// A key pair for tests.
@safe final class TestKey {
  let pointer: OpaquePointer

  /// An elliptic curve key on prime256v1, an Ed25519 or an RSA key, by OpenSSL's number of the kind.
  init(_ kind: Int32 = EVP_PKEY_EC) {
    let context = unsafe EVP_PKEY_CTX_new_id(kind, nil)
    defer { unsafe EVP_PKEY_CTX_free(context) }
    unsafe EVP_PKEY_keygen_init(context)
    if kind == EVP_PKEY_EC { unsafe EVP_PKEY_CTX_set_ec_paramgen_curve_nid(context, NID_X9_62_prime256v1) }
    var made: OpaquePointer?
    let outcome = unsafe EVP_PKEY_keygen(context, &made)
    precondition(outcome == 1, "no key")
    unsafe pointer = made!
  }

  deinit { unsafe EVP_PKEY_free(pointer) }

  func write(to path: String, passphrase: String? = nil) {
    let file = unsafe BIO_new_file(path, "w")
    defer { unsafe BIO_free(file) }
    let cipher = unsafe passphrase == nil ? nil : EVP_aes_256_cbc()
    let phrase = passphrase.map { $0.utf8.map { CChar(bitPattern: $0) } } ?? []
    let outcome = unsafe PEM_write_bio_PKCS8PrivateKey(file, pointer, cipher, phrase, Int32(phrase.count), nil, nil)
    precondition(outcome == 1, "key not written")
  }
}

/// The hash in a certificate's signature.
enum TestDigest {
  case sha1, sha256, sha512
  /// The signature has none of its own.
  case none

  var function: OpaquePointer? {
    switch self {
    case .sha1: unsafe EVP_sha1()
    case .sha256: unsafe EVP_sha256()
    case .sha512: unsafe EVP_sha512()
    case .none: nil
    }
  }
}

/// A certificate for tests, valid for a day around now.
@safe final class TestCertificate {
  let pointer: OpaquePointer
  let key: TestKey

  /// Signed by `issuer`, or by itself.
  init(
    _ commonName: String, key: TestKey = TestKey(), issuer: TestCertificate? = nil, digest: TestDigest = .sha256,
    isExpired: Bool = false
  ) {
    self.key = key
    let made = unsafe X509_new()!
    unsafe pointer = made
    unsafe ASN1_INTEGER_set(X509_get_serialNumber(made), Int.random(in: 1...Int(Int32.max)))
    unsafe X509_gmtime_adj(X509_getm_notBefore(made), -86_400)
    unsafe X509_gmtime_adj(X509_getm_notAfter(made), isExpired ? -3_600 : 86_400)
    unsafe X509_set_pubkey(made, key.pointer)
    let name = unsafe X509_NAME_new()
    defer { unsafe X509_NAME_free(name) }
    let text = Array(commonName.utf8)
    let isUTF8: Int32 = 0x1000
    unsafe X509_NAME_add_entry_by_NID(name, NID_commonName, isUTF8, text, Int32(text.count), -1, 0)
    unsafe X509_set_subject_name(made, name)
    unsafe X509_set_issuer_name(made, issuer.map { unsafe X509_get_subject_name($0.pointer) } ?? name)
    let size = unsafe X509_sign(made, (issuer?.key ?? key).pointer, digest.function)
    precondition(size > 0, "certificate not signed")
  }

  deinit { unsafe X509_free(pointer) }

  func write(to path: String) {
    let file = unsafe BIO_new_file(path, "w")
    defer { unsafe BIO_free(file) }
    let outcome = unsafe PEM_write_bio_X509(file, pointer)
    precondition(outcome == 1, "certificate not written")
  }

  /// The hash of the whole certificate.
  func hash(_ digest: TestDigest) -> [UInt8] {
    var hash = [UInt8](repeating: 0, count: 64)
    var count: UInt32 = 0
    unsafe X509_digest(pointer, digest.function, &hash, &count)
    return Array(hash.prefix(Int(count)))
  }
}

/// Files in a directory of their own, removed with it.
final class TestFiles {
  private let directory: String
  private var names: [String] = []

  init() {
    var template = "/tmp/lifeguard-tls-XXXXXX".utf8CString.map { $0 }
    directory = unsafe String(cString: mkdtemp(&template))
  }

  deinit {
    for name in names { unsafe unlink("\(directory)/\(name)") }
    unsafe rmdir(directory)
  }

  func path(_ name: String) -> String {
    names.append(name)
    return "\(directory)/\(name)"
  }

  func path(_ certificate: TestCertificate) -> String {
    let path = path("certificate-\(names.count)")
    certificate.write(to: path)
    return path
  }

  func path(_ key: TestKey, passphrase: String? = nil) -> String {
    let path = path("key-\(names.count)")
    key.write(to: path, passphrase: passphrase)
    return path
  }

  /// A server's context, with a certificate of its own.
  func context(clientsSignedBy authority: TestCertificate? = nil) -> TLSServerContext {
    let certificate = TestCertificate("server.test")
    return try! TLSServerContext(
      certificateFile: path(certificate), keyFile: path(certificate.key), authorityFile: authority.map { path($0) },
      clientCertificates: authority == nil ? .ignored : .required)
  }
}
