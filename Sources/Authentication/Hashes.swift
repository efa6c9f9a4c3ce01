internal import COpenSSL

/// OpenSSL's hashes, for byte arrays.
enum Hashes {
  static func sha256(_ bytes: [UInt8]) -> [UInt8] { unsafe digest(bytes, EVP_sha256(), count: 32) }

  static func hmacSHA256(key: [UInt8], _ bytes: [UInt8]) -> [UInt8] {
    var result = [UInt8](repeating: 0, count: 32)
    var count: UInt32 = 0
    let outcome = unsafe HMAC(EVP_sha256(), key, Int32(key.count), bytes, bytes.count, &result, &count)
    precondition(unsafe outcome != nil && count == 32, "HMAC-SHA-256 failed")
    return result
  }

  /// PBKDF2 with HMAC-SHA-256, 32 bytes (RFC 8018, section 5.2): RFC 5802's Hi().
  static func pbkdf2(_ password: [UInt8], salt: [UInt8], iterations: Int) -> [UInt8] {
    var result = [UInt8](repeating: 0, count: 32)
    let outcome = unsafe password.withUnsafeBytes { bytes in
      // OpenSSL counts the characters itself where it is given no address.
      let characters = unsafe bytes.assumingMemoryBound(to: CChar.self).baseAddress ?? UnsafePointer(bitPattern: 1)!
      return unsafe PKCS5_PBKDF2_HMAC(
        characters, Int32(bytes.count), salt, Int32(salt.count), Int32(iterations), EVP_sha256(), 32, &result)
    }
    precondition(outcome == 1, "PBKDF2 failed")
    return result
  }

  /// MD5 in 32 lower-case hexadecimal digits; nil where OpenSSL does not offer it (FIPS).
  static func md5Text(_ bytes: [UInt8]) -> [UInt8]? {
    var result = [UInt8](repeating: 0, count: 16)
    guard unsafe EVP_Digest(bytes, bytes.count, &result, nil, EVP_md5(), nil) == 1 else { return nil }
    let digits = Array("0123456789abcdef".utf8)
    return result.flatMap { [digits[Int($0 >> 4)], digits[Int($0 & 15)]] }
  }

  private static func digest(_ bytes: [UInt8], _ kind: OpaquePointer?, count: Int) -> [UInt8] {
    var result = [UInt8](repeating: 0, count: count)
    precondition(unsafe EVP_Digest(bytes, bytes.count, &result, nil, kind, nil) == 1, "a digest failed")
    return result
  }
}
