import PostgresWire

/// The options parameter: settings that were found are found again when each is written as one escaped switch.
func fuzz(_ input: [UInt8]) {
  guard let settings = try? CommandLineOptions.parse(input) else { return }
  var again: [UInt8] = []
  for setting in settings {
    again += Array("-c ".utf8)
    for byte in Array(setting.name.utf8) + Array("=".utf8) + setting.value.bytes {
      again += [UInt8(ascii: "\\"), byte]
    }
    again += Array(" ".utf8)
  }
  precondition((try? CommandLineOptions.parse(again)) == settings)
}
