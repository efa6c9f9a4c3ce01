internal import Admin
internal import NIOHTTP1
internal import Telemetry

/// What a request asks for, and the answer to it. Knows nothing of connections.
enum StatusRoute: Equatable {
  /// `/livez`: the process runs.
  case live
  /// `/readyz`: the daemon serves clients. An upstream that is down does not make it unready: all nodes would leave
  /// the balancer together.
  case ready
  /// `/metrics`: Prometheus' text format.
  case metrics
  /// `/health/NAME`: how the database of that name is.
  case health(String)
  /// `/`: the page for people.
  case page
  /// `/api/status`: what the page shows.
  case status
  /// The request is refused, and the connection closed where its body would have to be read first.
  case refused(StatusAnswer, closes: Bool)

  init(_ head: HTTPRequestHead) {
    guard head.method == .GET || head.method == .HEAD else {
      self = .refused(StatusAnswer(.methodNotAllowed, allow: "GET, HEAD"), closes: true)
      return
    }
    guard !head.headers.contains(name: "transfer-encoding"),
      head.headers["content-length"].allSatisfy({ $0 == "0" })
    else {
      self = .refused(StatusAnswer(.payloadTooLarge), closes: true)
      return
    }
    // RFC 9112 section 3.2.
    guard head.version == .http1_0 || head.headers["host"].count == 1 else {
      self = .refused(StatusAnswer(.badRequest), closes: true)
      return
    }
    let path = head.uri.prefix { $0 != "?" }
    switch path {
    case "/": self = .page
    case "/livez": self = .live
    case "/readyz": self = .ready
    case "/metrics": self = .metrics
    case "/api/status": self = .status
    default:
      if path.hasPrefix("/health/"), let name = PercentEncoding.decode(path.dropFirst("/health/".count)) {
        self = .health(name)
      } else {
        self = .refused(StatusAnswer(.notFound), closes: false)
      }
    }
  }

  /// The answer.
  func answer(from source: any StatusSource) async -> StatusAnswer {
    switch self {
    case .live: StatusAnswer(.ok)
    case .ready: source.isDraining ? StatusAnswer(.serviceUnavailable, body: "draining\n") : StatusAnswer(.ok)
    case .metrics:
      StatusAnswer(.ok, contentType: Metrics.contentType, body: Metrics.render(await source.snapshot()))
    case .health(let name):
      if let health = await source.health(of: name) {
        StatusAnswer(health.status == .unhealthy ? .serviceUnavailable : .ok, contentType: Self.json, body: health.json)
      } else {
        StatusAnswer(.notFound, body: "no such database\n")
      }
    case .page:
      StatusAnswer(.ok, contentType: "text/html; charset=utf-8", policy: StatusPage.policy, body: StatusPage.html)
    case .status:
      StatusAnswer(.ok, contentType: Self.json, body: StatusDocument.json(of: await source.snapshot()))
    case .refused(let answer, _): answer
    }
  }

  private static let json = "application/json"
}

/// Names in paths (RFC 3986 section 2.1).
enum PercentEncoding {
  /// The text that a part of a path stands for; nil where that is no UTF-8 text, or a `%` has no two digits after it.
  static func decode(_ part: Substring) -> String? {
    var bytes: [UInt8] = []
    var rest = part.utf8[...]
    while let byte = rest.popFirst() {
      guard byte == UInt8(ascii: "%") else {
        bytes.append(byte)
        continue
      }
      guard let high = rest.popFirst().flatMap(digit), let low = rest.popFirst().flatMap(digit) else { return nil }
      bytes.append(high << 4 | low)
    }
    return String(validating: bytes, as: UTF8.self)
  }

  private static func digit(_ character: UInt8) -> UInt8? {
    Character(UnicodeScalar(character)).hexDigitValue.map { UInt8($0) }
  }
}

/// Status, headers and body of a response.
struct StatusAnswer: Sendable, Equatable {
  let status: HTTPResponseStatus
  let contentType: String
  let allow: String?
  /// What a page may do (Content-Security-Policy).
  let policy: String?
  let body: String

  /// Without a body of its own, the body is the status in words.
  init(
    _ status: HTTPResponseStatus, contentType: String = "text/plain; charset=utf-8", allow: String? = nil,
    policy: String? = nil, body: String? = nil
  ) {
    self.status = status
    self.contentType = contentType
    self.allow = allow
    self.policy = policy
    self.body = body ?? status.reasonPhrase.lowercased() + "\n"
  }

  /// The headers, with the body's length also where the body itself is left out (HEAD).
  func headers(closing: Bool) -> HTTPHeaders {
    var headers: HTTPHeaders = [
      "Content-Type": contentType,
      "Content-Length": String(body.utf8.count),
      "Cache-Control": "no-store",
      "X-Content-Type-Options": "nosniff",
      "Connection": closing ? "close" : "keep-alive",
    ]
    if let allow { headers.add(name: "Allow", value: allow) }
    if let policy { headers.add(name: "Content-Security-Policy", value: policy) }
    return headers
  }
}
