import COpenSSL
import Testing

@testable import Reactor

@Suite struct TLSServerContextTests {
  private let files = TestFiles()
  private let certificate = TestCertificate("server.test")

  private func failure(
    certificate: String? = nil, key: String? = nil, authority: String? = nil,
    clients: TLSServerContext.ClientCertificates = .ignored
  ) -> TLSConfigurationError? {
    do throws(TLSConfigurationError) {
      _ = try TLSServerContext(
        certificateFile: certificate ?? files.path(self.certificate),
        keyFile: key ?? files.path(self.certificate.key), authorityFile: authority, clientCertificates: clients)
      return nil
    } catch {
      return error
    }
  }

  @Test func filesThatCannotBeReadAreNamed() {
    let missing = "No such file or directory"
    #expect(failure(certificate: "/nonexistent") == TLSConfigurationError(file: .certificate, reason: missing))
    #expect(failure(key: "") == TLSConfigurationError(file: .key, reason: missing))
    #expect(failure(authority: "/nonexistent") == TLSConfigurationError(file: .authority, reason: missing))
  }

  @Test func filesWithSomethingElseInThemAreNamed() throws {
    let key = files.path(certificate.key)
    #expect(failure(certificate: key)?.file == .certificate)
    #expect(failure(key: files.path(certificate))?.file == .key)
    #expect(failure(authority: key)?.file == .authority)
    #expect(failure(certificate: "/tmp")?.file == .certificate)
    let reason = try #require(failure(certificate: "/dev/null")).reason
    #expect(reason == "no start line")
  }

  @Test func aKeyOfAnotherCertificateIsRefused() {
    #expect(failure(key: files.path(TestKey())) == TLSConfigurationError(file: .key, reason: "key values mismatch"))
    #expect(failure(key: files.path(TestKey(EVP_PKEY_ED25519)))?.file == .key)
  }

  @Test func anEncryptedKeyIsRefusedWithoutAsking() throws {
    let reason = try #require(failure(key: files.path(certificate.key, passphrase: "open sesame"))).reason
    #expect(reason == "the key is encrypted, and there is nobody to ask for its passphrase")
  }

  @Test func clientCertificatesNeedAnAuthority() {
    #expect(failure(clients: .required)?.file == .authority)
    #expect(failure(authority: files.path(certificate), clients: .required) == nil)
  }

  @Test func anExpiredCertificateIsTheClientsBusiness() {
    let expired = TestCertificate("server.test", key: certificate.key, isExpired: true)
    #expect(failure(certificate: files.path(expired)) == nil)
  }

  private func endPointHash(_ certificate: TestCertificate) throws -> [UInt8]? {
    try TLSServerContext(
      certificateFile: files.path(certificate), keyFile: files.path(certificate.key), authorityFile: nil,
      clientCertificates: .ignored
    ).endPointHash
  }

  /// RFC 5929, section 4.1.
  @Test func theEndPointHashFollowsTheSignature() throws {
    let sha512 = TestCertificate("a", digest: .sha512)
    #expect(try endPointHash(sha512) == sha512.hash(.sha512))
    let sha256 = TestCertificate("b", key: TestKey(EVP_PKEY_RSA))
    #expect(try endPointHash(sha256) == sha256.hash(.sha256))
    let sha1 = TestCertificate("c", digest: .sha1)
    #expect(try endPointHash(sha1) == sha1.hash(.sha256))
    let none = TestCertificate("d", key: TestKey(EVP_PKEY_ED25519), digest: .none)
    #expect(try endPointHash(none) == nil)
  }
}
