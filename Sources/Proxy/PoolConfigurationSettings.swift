import Pooling
import Settings

extension PoolConfiguration {
  /// What the pool machine needs to know of a pool's settings.
  init(_ settings: PoolSettings) {
    self.init(poolSize: settings.poolSize, maxOverflow: settings.maxOverflow)
    minSize = settings.minSize
    poolTimeoutNanoseconds = settings.poolTimeout?.nanoseconds
    poolRecycleNanoseconds = settings.poolRecycle?.nanoseconds
    prePing = settings.poolPrePing
    prePingIdleNanoseconds = settings.prePingIdle.nanoseconds
    useLIFO = settings.useLIFO
    overflowLingerNanoseconds = settings.overflowLinger.nanoseconds
    connectTimeoutNanoseconds = settings.connectTimeout.nanoseconds
    onOutage = settings.onOutage == .hold ? .hold : .fail
  }
}
