import PostgresWire

/// What libFuzzer calls. Each file in `targets` defines `fuzz(_:)`, which is given one input and traps where a promise
/// is broken.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzOneInput(_ data: UnsafePointer<UInt8>?, _ size: Int) -> CInt {
  unsafe fuzz(Array(UnsafeBufferPointer(start: data, count: size)))
  return 0
}

/// The body of the one message that `write` writes.
func body(_ write: (inout MessageWriter) -> Void) -> [UInt8] {
  var writer = MessageWriter()
  write(&writer)
  return Array(writer.bytes.dropFirst(MessageHeader.size))
}

extension [UInt8] {
  /// The text at `range`, which must lie inside.
  func text(_ range: Range<Int>) -> WireText { WireText(span, range) }

  /// The big-endian 16-bit codes at `range`.
  func codes(_ range: Range<Int>) -> [Int16] {
    precondition(range.count.isMultiple(of: 2), "half a code")
    return stride(from: range.lowerBound, to: range.upperBound, by: 2).map {
      Int16(bitPattern: UInt16(self[$0]) << 8 | UInt16(self[$0 + 1]))
    }
  }

  /// The big-endian object identifiers at `range`.
  func identifiers(_ range: Range<Int>) -> [UInt32] {
    precondition(range.count.isMultiple(of: 4), "a part of an identifier")
    return stride(from: range.lowerBound, to: range.upperBound, by: 4).map { start in
      (start..<start + 4).reduce(0) { $0 << 8 | UInt32(self[$1]) }
    }
  }

  /// The `count` values at `range`, each with its length in front.
  func values(_ range: Range<Int>, count: Int) -> [[UInt8]?] {
    var values: [[UInt8]?] = []
    var start = range.lowerBound
    for _ in 0..<count {
      let length = Int(Int32(bitPattern: identifiers(start..<start + 4)[0]))
      start += 4
      values.append(length < 0 ? nil : Array(self[start..<start + length]))
      start += Swift.max(length, 0)
    }
    precondition(start == range.upperBound, "the values do not fill their range")
    return values
  }
}
