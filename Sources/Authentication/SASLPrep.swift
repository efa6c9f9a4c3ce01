internal import CStringPrep

/// The form in which SCRAM compares passwords (RFC 4013), by libidn.
enum SASLPrep {
  /// The prepared text. One that SASLprep forbids (unassigned or control characters, mixed directions) stays as it is, as
  /// in PostgreSQL (`pg_saslprep` and its callers).
  static func prepare(_ text: String) -> [UInt8] {
    let raw = Array(text.utf8)
    // Nothing changes in ASCII, and a C string ends at NUL.
    if raw.allSatisfy({ $0 < 0x80 }) { return raw }
    var output: UnsafeMutablePointer<CChar>?
    let flags = Stringprep_profile_flags(UInt32(lifeguard_stringprep_no_unassigned))
    let outcome = unsafe stringprep_profile(text, &output, "SASLprep", flags)
    defer { unsafe idn_free(output) }
    guard outcome == Int32(STRINGPREP_OK.rawValue), !raw.contains(0), let prepared = unsafe output else { return raw }
    let bytes = Array(unsafe String(cString: prepared).utf8)
    return bytes.isEmpty ? raw : bytes
  }
}
