/// Appends messages to a byte array. Lengths are patched in when a body is complete.
///
/// The messages themselves are methods in the files of their decoders: `parse`, `bind`, `readyForQuery`, ….
public struct MessageWriter: Sendable {
  /// All that was written. Take it out, or empty it to write anew with the same storage.
  public var bytes: [UInt8]

  /// A writer that appends to `bytes`.
  @inlinable public init(_ bytes: consuming [UInt8] = []) {
    self.bytes = bytes
  }

  /// Appends a message of a client: its header, then what `body` writes.
  @inlinable public mutating func message(_ type: FrontendType, body: (inout MessageWriter) -> Void = { _ in }) {
    bytes.append(type.rawValue)
    packet(body: body)
  }

  /// Appends a message of a server: its header, then what `body` writes.
  @inlinable public mutating func message(_ type: BackendType, body: (inout MessageWriter) -> Void = { _ in }) {
    bytes.append(type.rawValue)
    packet(body: body)
  }

  /// Appends a packet without a type byte, as the startup phase has them: a length that counts itself, then what
  /// `body` writes, together at most 2,147,483,647 bytes.
  @inlinable public mutating func packet(body: (inout MessageWriter) -> Void) {
    let start = bytes.count
    uint32(0)
    body(&self)
    let length = bytes.count - start
    precondition(length <= Int32.max, "a message of \(length) bytes does not fit its length field")
    bytes[start] = UInt8(truncatingIfNeeded: length >> 24)
    bytes[start + 1] = UInt8(truncatingIfNeeded: length >> 16)
    bytes[start + 2] = UInt8(truncatingIfNeeded: length >> 8)
    bytes[start + 3] = UInt8(truncatingIfNeeded: length)
  }
}

/// Fields.
extension MessageWriter {
  /// One byte.
  @inlinable public mutating func uint8(_ value: UInt8) {
    bytes.append(value)
  }

  /// Two bytes, most significant first.
  @inlinable @inline(__always) public mutating func uint16(_ value: UInt16) {
    bytes.append(UInt8(truncatingIfNeeded: value >> 8))
    bytes.append(UInt8(truncatingIfNeeded: value))
  }

  /// Two bytes, most significant first.
  @inlinable public mutating func int16(_ value: Int16) {
    uint16(UInt16(bitPattern: value))
  }

  /// Four bytes, most significant first.
  @inlinable @inline(__always) public mutating func uint32(_ value: UInt32) {
    uint16(UInt16(truncatingIfNeeded: value >> 16))
    uint16(UInt16(truncatingIfNeeded: value))
  }

  /// Four bytes, most significant first.
  @inlinable public mutating func int32(_ value: Int32) {
    uint32(UInt32(bitPattern: value))
  }

  /// A count of list entries in two bytes, 0 to 65,535.
  public mutating func count(_ value: Int) {
    precondition(0...Int(UInt16.max) ~= value, "\(value) entries do not fit a 16-bit count")
    uint16(UInt16(value))
  }

  /// Text and the zero byte that ends it. Zero bytes inside the text are left out: whoever wrote them must not be
  /// able to end the field early and have the rest taken for the next one.
  public mutating func text(_ text: WireText) {
    if text.bytes.contains(0) {
      bytes.append(contentsOf: text.bytes.filter { $0 != 0 })
    } else {
      bytes.append(contentsOf: text.bytes)
    }
    bytes.append(0)
  }

  /// Bytes as they are.
  public mutating func raw(_ raw: [UInt8]) {
    bytes.append(contentsOf: raw)
  }

  /// The bytes of `range` in `body`, as they are.
  public mutating func raw(_ body: Span<UInt8>, _ range: Range<Int>) {
    bytes.append(body.extracting(range))
  }

  /// A value with its 32-bit length in front; nil is null, length -1.
  public mutating func value(_ value: [UInt8]?) {
    guard let value else { return int32(-1) }
    uint32(UInt32(value.count))
    raw(value)
  }

  /// A list of 16-bit codes with its count in front.
  public mutating func list(_ codes: [Int16]) {
    count(codes.count)
    for code in codes { int16(code) }
  }
}

extension [UInt8] {
  /// Appends bytes as they are, all at once.
  public mutating func append(_ bytes: Span<UInt8>) {
    unsafe bytes.withUnsafeBufferPointer { unsafe append(contentsOf: $0) }
  }
}
