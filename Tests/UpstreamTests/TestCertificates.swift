import Foundation

/// Authorities and what they have signed, made by `openssl` in a folder of its own.
final class TestCertificates: Sendable {
  private let folder: String

  /// Lives as long as the test process, and its folder with it. nil where there is no `openssl`.
  static let shared: TestCertificates? = {
    guard let certificates = TestCertificates() else { return nil }
    atexit { TestCertificates.shared?.remove() }
    return certificates
  }()

  private func remove() { try? FileManager.default.removeItem(atPath: folder) }

  /// `authority`, `foreign` (another authority), `server` (localhost, 127.0.0.1), `misnamed` (elsewhere), `alice` (a
  /// client), `locked` (alice's key under the passphrase `key secret`, readable by its owner only).
  func certificate(_ name: String) -> String { "\(folder)/\(name).crt" }
  func key(_ name: String) -> String { "\(folder)/\(name).key" }

  private init?() {
    folder = FileManager.default.temporaryDirectory.appendingPathComponent("upstream-certificates-\(UUID())").path
    let script = """
      set -eu
      umask 022
      mkdir "$1"
      cd "$1"
      new='-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes'
      for name in authority foreign; do
        openssl req -x509 $new -days 30 -subj /CN=$name -keyout $name.key -out $name.crt
      done
      sign() {
        openssl req $new -subj /CN=$2 -keyout $1.key -out $1.csr
        printf 'basicConstraints=CA:FALSE\\n%s\\n' "$3" >extensions
        openssl x509 -req -in $1.csr -CA authority.crt -CAkey authority.key -CAcreateserial -days 30 \
          -extfile extensions -out $1.crt
      }
      sign server localhost subjectAltName=DNS:localhost,IP:127.0.0.1
      sign misnamed elsewhere subjectAltName=DNS:elsewhere
      sign alice alice ''
      cp alice.crt locked.crt
      openssl pkcs8 -topk8 -in alice.key -passout 'pass:key secret' -out locked.key
      chmod 600 *.key
      chmod 644 server.key misnamed.key
      """
    let openssl = Process()
    openssl.executableURL = URL(fileURLWithPath: "/bin/sh")
    openssl.arguments = ["-c", script, "sh", folder]
    openssl.standardOutput = FileHandle.nullDevice
    openssl.standardError = FileHandle.nullDevice
    guard (try? openssl.run()) != nil else { return nil }
    openssl.waitUntilExit()
    guard openssl.terminationStatus == 0 else { return nil }
  }
}
