import Authentication

/// The text of a userlist.
func fuzz(_ input: [UInt8]) {
  guard let text = String(validating: input, as: UTF8.self),
    let list = try? Userlist.parse(text, file: "fuzz")
  else { return }
  for user in list.users { _ = list.plainPassword(of: user) }
}
