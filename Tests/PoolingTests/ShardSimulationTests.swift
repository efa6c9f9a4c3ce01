import Glibc
import Testing

/// Random clients, connections and administrators against the shards of one pool, whose messages arrive late and in any
/// order that mailboxes allow. `LIFEGUARD_SEED` and `LIFEGUARD_EVENTS` as for the pool simulation.
struct ShardSimulationTests {
  @Test("Shards keep their common bound, and nobody waits for what another shard has to spare")
  func promisesAreKept() async {
    let seed = number("LIFEGUARD_SEED") ?? UInt64.random(in: 0..<1_000_000_000)
    #if DEBUG
      let events = number("LIFEGUARD_EVENTS") ?? 40_000
    #else
      let events = number("LIFEGUARD_EVENTS") ?? 1_000_000
    #endif
    print("shard simulation: LIFEGUARD_SEED=\(seed) LIFEGUARD_EVENTS=\(events)")
    var seeds = SimulationRandom(seed: seed)
    let eventsPerWorld = min(events, 4_000)
    var assigned = 0
    var moved = 0
    for _ in 0..<max(1, events / eventsPerWorld) {
      var world = ShardWorld(seed: seeds.next())
      for _ in 0..<eventsPerWorld { world.step() }
      world.finish()
      assigned += world.assignCount
      moved += world.moveCount
      await Task.yield()
    }
    #expect(assigned > 0 && moved > 0)
  }

  private func number(_ name: String) -> UInt64? {
    guard let text = unsafe getenv(name) else { return nil }
    return unsafe UInt64(String(cString: text))
  }
}
