import Glibc
import Testing

/// Random clients, upstreams and administrators against the pool machine, with everything checked after every event.
///
/// `LIFEGUARD_SEED` replays a run (its seed is printed), `LIFEGUARD_EVENTS` makes it longer. Built with optimisation
/// it makes millions of events in a few seconds.
struct PoolSimulationTests {
  @Test("Whatever happens in whatever order, the pool machine keeps its promises")
  func promisesAreKept() async {
    let seed = number("LIFEGUARD_SEED") ?? UInt64.random(in: 0..<1_000_000_000)
    #if DEBUG
      let events = number("LIFEGUARD_EVENTS") ?? 60_000
    #else
      let events = number("LIFEGUARD_EVENTS") ?? 3_000_000
    #endif
    print("pool simulation: LIFEGUARD_SEED=\(seed) LIFEGUARD_EVENTS=\(events)")
    // Several worlds, since each has sizes and time-outs of its own.
    var seeds = SimulationRandom(seed: seed)
    let eventsPerWorld = min(events, 20_000)
    var assigned = 0
    for _ in 0..<max(1, events / eventsPerWorld) {
      var world = SimulationWorld(seed: seeds.next())
      for _ in 0..<eventsPerWorld { world.step() }
      world.finish()
      assigned += world.assignCount
      // The tests share as many threads as there are cores.
      await Task.yield()
    }
    #expect(assigned > 0)
  }

  private func number(_ name: String) -> UInt64? {
    guard let text = unsafe getenv(name) else { return nil }
    return unsafe UInt64(String(cString: text))
  }
}
