import Authentication

/// A whole login: the first byte chooses method, user and TLS; then come the client's messages, each with a byte of its
/// length before it (255: 256 and the next byte more).
func fuzz(_ input: [UInt8]) {
  guard let choice = input.first else { return }
  let methods: [LoginMethod] = [.password, .md5, .scramSHA256, .upstream]
  let method = methods[Int(choice & 3)]
  let user = ["plain", "md", "scram", "nobody"][Int(choice >> 2 & 3)]
  var exchange = LoginExchange(
    method, user: user, verifiers: verifiers[Int(choice & 3)],
    channelBinding: choice & 16 == 0 ? .plaintext : .tls(endPointHash: Array(0..<32)),
    randomness: [UInt8](repeating: choice, count: LoginExchange.randomnessNeeded))
  var step = exchange.begin()
  var cursor = 1
  while true {
    switch step {
    case .ask:
      guard cursor < input.count else { return }
      var length = Int(input[cursor])
      cursor += 1
      if length == 255, cursor < input.count {
        length = 256 + Int(input[cursor])
        cursor += 1
      }
      let end = min(cursor + length, input.count)
      step = exchange.received(Array(input[cursor..<end]))
      cursor = end
    case .derive(let derivation):
      // Only this user's secret is one of few rounds.
      guard user == "scram" else { return }
      step = exchange.derived(derivation.run())
    case .accepted, .verifyUpstream, .refused: return
    }
  }
}

/// By method.
private let verifiers: [LoginVerifiers] = {
  let key = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE="
  let list = """
    "plain" "geheim"
    "md" "md5475b59d9e4b9a42ea0e8a1881bf7c056"
    "scram" "SCRAM-SHA-256$1:AAAA$\(key):\(key)"
    """
  guard let userlist = try? Userlist.parse(list, file: "seed") else { preconditionFailure("the seed is no userlist") }
  let methods: [LoginMethod] = [.password, .md5, .scramSHA256, .upstream]
  return methods.map { LoginVerifiers(userlist, method: $0, key: [UInt8](repeating: 1, count: 32)) }
}()
