// swift-tools-version: 6.2
import PackageDescription

/// Every Swift target of the project: Swift 6 language mode, each use of unsafe memory marked.
let strict: [SwiftSetting] = [
  .strictMemorySafety(),
  .enableUpcomingFeature("ExistentialAny"),
  .enableUpcomingFeature("InternalImportsByDefault"),
  // A queue lends its bytes as a `Span` that cannot outlive it.
  .enableExperimentalFeature("Lifetimes"),
]

/// For the targets whose objects change on every event. Debug builds, which all unit tests and simulations are run with
/// too, check at run time that no object is changed from two places at once; release builds rely on that
/// (docs/decisions/0003-exclusivity-checks.md).
let hot: [SwiftSetting] =
  strict + [.unsafeFlags(["-enforce-exclusivity=unchecked"], .when(configuration: .release))]

let collections: Target.Dependency = .product(name: "DequeModule", package: "swift-collections")

let package = Package(
  name: "lifeguard",
  products: [.executable(name: "lifeguard", targets: ["lifeguard"])],
  dependencies: [
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
    .package(url: "https://github.com/apple/swift-collections", from: "1.6.0"),
    .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
    .package(url: "https://github.com/apple/swift-nio", from: "2.101.2"),
  ],
  targets: [
    // What Swift cannot import by itself: module maps and thin shims, no logic.
    .target(name: "CLinux"),
    .systemLibrary(name: "CLibpq", pkgConfig: "libpq", providers: [.apt(["libpq-dev"])]),
    .systemLibrary(name: "COpenSSL", pkgConfig: "openssl", providers: [.apt(["libssl-dev"])]),
    .systemLibrary(name: "CStringPrep", pkgConfig: "libidn", providers: [.apt(["libidn-dev"])]),
    .systemLibrary(name: "CSystemd", pkgConfig: "libsystemd", providers: [.apt(["libsystemd-dev"])]),
    .target(name: "CTOML"),
    .target(name: "CUring"),

    // The lock, which builds for ThreadSanitizer exchange.
    .target(name: "Locking", swiftSettings: strict),

    // Pure: no sockets, no clock, no libpq.
    .target(name: "PostgresWire", swiftSettings: strict),
    .target(
      name: "Authentication", dependencies: ["PostgresWire", "Locking", "COpenSSL", "CStringPrep"],
      swiftSettings: strict),
    .target(name: "Pooling", dependencies: ["PostgresWire", collections], swiftSettings: strict),
    .target(name: "Settings", dependencies: ["CTOML"], swiftSettings: strict),
    .target(name: "Telemetry", swiftSettings: strict),
    .target(name: "Logs", dependencies: ["Settings", "Telemetry", "Locking"], swiftSettings: strict),

    // The kernel, libpq, and what joins them.
    .target(
      name: "Reactor", dependencies: ["Locking", "CLinux", "COpenSSL", "CUring", collections], swiftSettings: hot),
    .target(name: "Upstream", dependencies: ["Locking", "CLibpq", "CLinux"], swiftSettings: strict),
    .target(
      name: "Proxy",
      dependencies: [
        "PostgresWire", "Authentication", "Pooling", "Settings", "Telemetry", "Reactor", "Upstream", "CLinux",
        collections,
      ],
      swiftSettings: hot),

    // The control plane.
    .target(name: "Admin", dependencies: ["Telemetry"], swiftSettings: strict),
    .target(
      name: "StatusServer",
      dependencies: [
        "Admin", "Settings", "Telemetry", "Locking",
        .product(name: "NIOCore", package: "swift-nio"),
        .product(name: "NIOPosix", package: "swift-nio"),
        .product(name: "NIOHTTP1", package: "swift-nio"),
      ],
      swiftSettings: strict),
    .executableTarget(
      name: "lifeguard",
      dependencies: [
        "PostgresWire", "Pooling", "Settings", "Telemetry", "Reactor", "Upstream", "Proxy", "Admin", "StatusServer",
        "Logs", "Locking", "CSystemd", "CLinux",
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
        .product(name: "Logging", package: "swift-log"),
      ],
      swiftSettings: strict),

    .testTarget(name: "PostgresWireTests", dependencies: ["PostgresWire"], swiftSettings: strict),
    .testTarget(
      name: "AuthenticationTests", dependencies: ["Authentication", "PostgresWire"], swiftSettings: strict),
    .testTarget(name: "PoolingTests", dependencies: ["Pooling", "PostgresWire"], swiftSettings: strict),
    .testTarget(name: "SettingsTests", dependencies: ["Settings"], swiftSettings: strict),
    .testTarget(name: "TelemetryTests", dependencies: ["Telemetry"], swiftSettings: strict),
    .testTarget(name: "LogsTests", dependencies: ["Logs", "Settings", "Telemetry"], swiftSettings: strict),
    .testTarget(name: "ReactorTests", dependencies: ["Reactor", "CLinux", "COpenSSL"], swiftSettings: strict),
    .testTarget(name: "UpstreamTests", dependencies: ["Upstream", "Reactor"], swiftSettings: strict),
    .testTarget(name: "ProxyTests", dependencies: ["Proxy", "Settings"], swiftSettings: strict),
    .testTarget(name: "AdminTests", dependencies: ["Admin", "Telemetry"], swiftSettings: strict),
    .testTarget(
      name: "StatusServerTests",
      dependencies: [
        "StatusServer", "Settings", "Telemetry",
        .product(name: "NIOCore", package: "swift-nio"),
        .product(name: "NIOPosix", package: "swift-nio"),
      ],
      swiftSettings: strict),
  ],
  cxxLanguageStandard: .cxx17
)
