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
    switch head.uri.prefix(while: { $0 != "?" }) {
    case "/livez": self = .live
    case "/readyz": self = .ready
    case "/metrics": self = .metrics
    default: self = .refused(StatusAnswer(.notFound), closes: false)
    }
  }

  /// The answer.
  func answer(from source: any StatusSource) async -> StatusAnswer {
    switch self {
    case .live: StatusAnswer(.ok)
    case .ready: source.isDraining ? StatusAnswer(.serviceUnavailable, body: "draining\n") : StatusAnswer(.ok)
    case .metrics:
      StatusAnswer(.ok, contentType: Metrics.contentType, body: Metrics.render(await source.snapshot()))
    case .refused(let answer, _): answer
    }
  }
}

/// Status, headers and body of a response.
struct StatusAnswer: Sendable, Equatable {
  let status: HTTPResponseStatus
  let contentType: String
  let allow: String?
  let body: String

  /// Without a body of its own, the body is the status in words.
  init(
    _ status: HTTPResponseStatus, contentType: String = "text/plain; charset=utf-8", allow: String? = nil,
    body: String? = nil
  ) {
    self.status = status
    self.contentType = contentType
    self.allow = allow
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
    return headers
  }
}
