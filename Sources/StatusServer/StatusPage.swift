/// The page at `/`: one HTML text that asks for `/api/status` each second.
///
/// Names of databases and users, and the server's words, are whatever somebody made them: the script puts them into the
/// page as text (`textContent`), never as HTML.
enum StatusPage {
  /// The page's own style and script may run, and ask the daemon; nothing comes from elsewhere, and nothing goes there.
  static let policy = """
    default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; \
    img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'
    """

  static let html = #"""
    <!doctype html>
    <html lang="en">
    <head>
    <meta charset="utf-8">
    <meta name="viewport" content="width=device-width, initial-scale=1">
    <meta name="color-scheme" content="light dark">
    <link rel="icon" href="data:,">
    <title>Lifeguard</title>
    <style>
    :root {
      --page: #f4f6f8; --card: #ffffff; --line: #dde3e9; --text: #17212b; --quiet: #5c6b7a;
      --used: #2468c9; --idle: #9cc5a8; --moving: #b9c3cd; --overflow: #d97706; --bad: #c62828; --good: #2e7d4f;
      --track: #e8edf1;
    }
    @media (prefers-color-scheme: dark) {
      :root {
        --page: #10161c; --card: #18212a; --line: #2a3642; --text: #e4eaf0; --quiet: #93a3b3;
        --used: #5b9bf0; --idle: #3f7556; --moving: #55636f; --overflow: #f0a030; --bad: #ff7366; --good: #62c088;
        --track: #232e39;
      }
    }
    * { box-sizing: border-box; }
    body {
      margin: 0; background: var(--page); color: var(--text);
      font: 15px/1.45 system-ui, "Segoe UI", "Helvetica Neue", Arial, sans-serif;
      font-variant-numeric: tabular-nums;
    }
    main { max-width: 1080px; margin: 0 auto; padding: 20px 16px 40px; }
    header { display: flex; flex-wrap: wrap; align-items: baseline; gap: 4px 14px; margin-bottom: 16px; }
    h1 { font-size: 22px; margin: 0; }
    h2 { font-size: 15px; margin: 26px 0 8px; color: var(--quiet); font-weight: 600; }
    .quiet { color: var(--quiet); }
    .pill { border-radius: 99px; padding: 1px 10px; font-size: 13px; font-weight: 600; color: var(--card); }
    .pill.good { background: var(--good); }
    .pill.bad { background: var(--bad); }
    .pill.warn { background: var(--overflow); }
    .pill:empty { display: none; }
    .card { background: var(--card); border: 1px solid var(--line); border-radius: 10px; }
    .tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 10px; }
    .tile { padding: 10px 14px 8px; min-width: 0; }
    .tile b { display: block; font-size: 25px; line-height: 1.25; font-weight: 600; white-space: nowrap; }
    .tile b small { font-size: 14px; font-weight: 400; color: var(--quiet); }
    .tile svg { display: block; width: 100%; height: 26px; margin-top: 2px; }
    .tile polyline { fill: none; stroke: var(--used); stroke-width: 1.5; vector-effect: non-scaling-stroke; }
    .pool { padding: 12px 14px; margin-bottom: 10px; }
    .pool .top { display: flex; flex-wrap: wrap; align-items: baseline; gap: 2px 10px; }
    .pool .name { font-weight: 600; overflow-wrap: anywhere; }
    .bar {
      position: relative; display: flex; height: 20px; margin: 9px 0 0; border-radius: 5px; overflow: hidden;
      background: var(--track);
    }
    .bar span { height: 100%; transition: width .3s; }
    .used { background: var(--used); }
    .idle { background: var(--idle); }
    .moving { background: var(--moving); }
    .extent { position: relative; height: 5px; margin: 3px 0 7px; }
    .extent span { position: absolute; top: 0; height: 5px; border-radius: 3px; transition: left .3s, width .3s; }
    .extent .over { background: var(--overflow); }
    .bar .size { position: absolute; top: 0; width: 2px; height: 100%; background: var(--text); opacity: .55; }
    .facts { display: grid; grid-template-columns: repeat(5, 1fr); gap: 2px 14px; }
    .facts div { white-space: nowrap; }
    .facts span { color: var(--quiet); margin-left: 5px; }
    .facts .alarm b { color: var(--bad); }
    .error { margin-top: 7px; color: var(--bad); overflow-wrap: anywhere; font-size: 14px; }
    .error:empty { display: none; }
    .legend { display: flex; flex-wrap: wrap; gap: 4px 16px; font-size: 13px; color: var(--quiet); }
    .legend i { display: inline-block; width: 11px; height: 11px; border-radius: 3px; margin-right: 6px; }
    .legend i.over { background: var(--overflow); height: 5px; vertical-align: 2px; }
    .legend i.size { background: var(--text); width: 2px; opacity: .55; vertical-align: -1px; }
    .row { display: flex; flex-wrap: wrap; justify-content: space-between; align-items: center; gap: 8px; }
    input { font: inherit; padding: 3px 9px; color: inherit; background: var(--card); border: 1px solid var(--line);
      border-radius: 7px; }
    table { width: 100%; border-collapse: collapse; font-size: 14px; }
    td { padding: 6px 14px; border-top: 1px solid var(--line); vertical-align: top; overflow-wrap: anywhere; }
    tr:first-child td { border-top: 0; }
    td.time { white-space: nowrap; color: var(--quiet); width: 1%; }
    td.kind { white-space: nowrap; width: 1%; font-weight: 600; }
    .empty { padding: 12px 14px; }
    th { padding: 8px 14px 4px; text-align: left; font-weight: 400; color: var(--quiet); }
    .hosts tbody tr:first-child td { border-top: 1px solid var(--line); }
    .hosts th, .hosts td { white-space: nowrap; width: 1%; }
    .hosts td.host { font-weight: 600; white-space: normal; min-width: 12em; }
    .hosts td.last, .hosts th:last-child { white-space: normal; width: auto; min-width: 16em; }
    .hosts .pill.unknown { background: var(--moving); color: var(--text); }
    .history { display: inline-flex; gap: 1px; vertical-align: -2px; }
    .history i { width: 4px; height: 13px; border-radius: 1px; background: var(--good); }
    .history i.bad { background: var(--bad); }
    .history i.warn { background: var(--overflow); }
    @media (max-width: 600px) {
      .tiles { grid-template-columns: repeat(2, 1fr); }
      .tile b { font-size: 21px; }
      .facts { grid-template-columns: repeat(2, 1fr); }
      td { display: inline-block; border: 0; padding: 0 8px 0 0; }
      td.time, td.kind { width: auto; }
      tr { display: block; padding: 7px 14px; border-top: 1px solid var(--line); }
      tr:first-child { border-top: 0; }
      thead { display: none; }
      .hosts tbody tr:first-child td { border-top: 0; }
      .hosts td { width: auto; min-width: 0; }
      .hosts td[data-name]::after { content: " " attr(data-name); color: var(--quiet); }
    }
    </style>
    </head>
    <body>
    <main>
      <header>
        <h1>Lifeguard</h1>
        <span class="pill" id="state"></span>
        <span class="quiet" id="about"></span>
      </header>
      <noscript>
        <p class="card empty">This page needs JavaScript to show live figures. Without it, read
        <a href="/metrics">/metrics</a> or <a href="/api/status">/api/status</a>.</p>
      </noscript>
      <div id="live" hidden>
        <div class="tiles" id="tiles"></div>
        <div class="row">
          <h2>Pools</h2>
          <input id="filter" type="search" placeholder="database or user" aria-label="Show pools by name" hidden>
        </div>
        <div id="pools"></div>
        <div class="legend">
          <span><i class="used"></i>used</span>
          <span><i class="idle"></i>idle</span>
          <span><i class="moving"></i>opening or closing</span>
          <span><i class="size"></i>pool_size</span>
          <span><i class="over"></i>overflow</span>
          <span>the whole bar is the bound; rates and waits are of the last 5 s</span>
        </div>
        <h2>Hosts</h2>
        <div class="card"><table class="hosts" id="hosts"></table></div>
        <h2>Events</h2>
        <div class="card"><table id="events"></table></div>
      </div>
    </main>
    <script>
    "use strict";

    const POLL_MS = 1000;
    const WINDOW_US = 5e6;
    const HISTORY = 60;

    const byID = id => document.getElementById(id);

    /* An element with a class and text. Text from outside only ever gets into the page here and by textContent. */
    function make(tag, className, text) {
      const element = document.createElement(tag);
      if (className) element.className = className;
      if (text !== undefined) element.textContent = text;
      return element;
    }

    function duration(us) {
      if (us === null) return "–";
      if (us < 1000) return Math.round(us) + " µs";
      if (us < 1e5) return (us / 1000).toPrecision(2) + " ms";
      if (us < 1e6) return Math.round(us / 1000) + " ms";
      return us < 1e7 ? (us / 1e6).toFixed(1) + " s" : Math.round(us / 1e6) + " s";
    }

    function age(us) {
      const minutes = Math.floor(us / 6e7), hours = Math.floor(minutes / 60), days = Math.floor(hours / 24);
      if (days) return days + " d " + hours % 24 + " h";
      if (hours) return hours + " h " + minutes % 60 + " min";
      return minutes ? minutes + " min" : Math.floor(us / 1e6) + " s";
    }

    function rate(perSecond) {
      if (perSecond === null) return "–";
      return perSecond < 10 ? String(Math.round(perSecond * 10) / 10) : Math.round(perSecond).toLocaleString("en");
    }

    /* What happened between two states of one pool: transactions a second, and the waits by bucket. */
    function between(before, after, us) {
      const counts = new Map(after.wait);
      const sameLife = before && us > 0 && before.transactions <= after.transactions;
      if (!sameLife) return { tps: null, counts: new Map() };
      for (const [bucket, count] of before.wait) counts.set(bucket, (counts.get(bucket) || 0) - count);
      return { tps: (after.transactions - before.transactions) / us * 1e6, counts };
    }

    /* The duration that a share of all does not exceed, interpolated within its bucket; null where there is none. */
    function quantile(counts, share, bounds) {
      const buckets = [...counts].filter(entry => entry[1] > 0).sort((a, b) => a[0] - b[0]);
      const rank = share * buckets.reduce((sum, entry) => sum + entry[1], 0);
      let below = 0;
      for (const [bucket, count] of buckets) {
        if (below + count >= rank) {
          const lower = bucket ? bounds[bucket - 1] : 0;
          const upper = bucket < bounds.length ? bounds[bucket] : lower;
          return lower + (upper - lower) * (rank - below) / count;
        }
        below += count;
      }
      return null;
    }

    /* The tiles above the pools: a number now, and its course. */
    const tiles = new Map();
    function tile(name, text, unit, value) {
      let known = tiles.get(name);
      if (!known) {
        const card = make("div", "card tile");
        card.append(make("span", "quiet", name));
        const number = card.appendChild(make("b"));
        const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
        svg.setAttribute("viewBox", "0 0 " + (HISTORY - 1) + " 24");
        svg.setAttribute("preserveAspectRatio", "none");
        svg.setAttribute("aria-hidden", "true");
        const line = svg.appendChild(document.createElementNS(svg.namespaceURI, "polyline"));
        card.append(svg);
        byID("tiles").append(card);
        tiles.set(name, known = { number, line, course: [] });
      }
      known.number.replaceChildren(text, make("small", "", unit));
      if (value !== null) known.course.push(value);
      if (known.course.length > HISTORY) known.course.shift();
      const most = Math.max(1, ...known.course);
      const start = HISTORY - known.course.length;
      known.line.setAttribute(
        "points", known.course.map((y, x) => start + x + "," + (23 - 21 * y / most).toFixed(1)).join(" "));
    }

    /* One pool: its elements are kept, so that a selection in them lives on. */
    const rows = new Map();
    function poolRow(key, pool) {
      if (rows.has(key)) return rows.get(key);
      const card = make("div", "card pool");
      const top = card.appendChild(make("div", "top"));
      top.append(make("span", "name", pool.database + " / " + pool.user));
      const row = { card, facts: {} };
      row.badge = top.appendChild(make("span", "pill"));
      row.mode = top.appendChild(make("span", "quiet"));
      const bar = row.bar = card.appendChild(make("div", "bar"));
      bar.setAttribute("role", "img");
      for (const part of ["used", "idle", "moving", "size"]) row[part] = bar.appendChild(make("span", part));
      row.over = card.appendChild(make("div", "extent")).appendChild(make("span", "over"));
      const facts = card.appendChild(make("div", "facts"));
      for (const name of ["used", "idle", "overflow", "waiting", "longest wait", "clients", "tx/s", "wait p50",
        "wait p99", "round trip"]) {
        const fact = facts.appendChild(make("div"));
        row.facts[name] = fact.appendChild(make("b"));
        fact.append(make("span", "", name));
      }
      row.error = card.appendChild(make("div", "error"));
      rows.set(key, row);
      return row;
    }

    function showPool(row, pool, change, bounds) {
      const bound = pool.pool_size + pool.max_overflow;
      const moving = pool.dialing + pool.closing;
      const percent = count => 100 * count / Math.max(1, bound) + "%";
      row.used.style.width = percent(pool.checked_out);
      row.idle.style.width = percent(pool.idle);
      row.moving.style.width = percent(moving);
      row.size.style.left = percent(pool.pool_size);
      row.size.hidden = pool.max_overflow === 0;
      row.over.style.left = percent(pool.pool_size);
      row.over.style.width = percent(Math.min(pool.overflow, pool.max_overflow));
      row.bar.setAttribute("aria-label", pool.checked_out + " used, " + pool.idle + " idle, " + moving +
        " opening or closing, of at most " + bound);
      row.mode.textContent = [pool.mode, "size " + pool.pool_size + " + " + pool.max_overflow, pool.role]
        .filter(Boolean).join(" · ");
      const trouble = { outage: "outage", rejected: "login rejected", exhausted: "server full" }[pool.standing];
      row.badge.textContent = trouble || (pool.paused ? "paused" : "");
      row.badge.className = "pill " + (trouble ? "bad" : "warn");
      row.error.textContent = pool.last_error || "";
      const show = (name, text, alarm) => {
        row.facts[name].textContent = text;
        row.facts[name].parentNode.className = alarm ? "alarm" : "";
      };
      show("used", pool.checked_out);
      show("idle", pool.idle);
      show("overflow", pool.overflow);
      show("waiting", pool.waiting, pool.waiting > 0);
      show("longest wait", pool.waiting ? duration(pool.max_wait_us) : "–", pool.max_wait_us > 1e6);
      show("clients", pool.clients);
      show("tx/s", rate(change.tps));
      show("wait p50", duration(quantile(change.counts, .5, bounds)));
      show("wait p99", duration(quantile(change.counts, .99, bounds)));
      show("round trip", duration(pool.latency_us));
    }

    function bytes(count) {
      const units = ["bytes", "KiB", "MiB", "GiB", "TiB"];
      let unit = 0;
      for (; count >= 1024 && unit < units.length - 1; unit++) count /= 1024;
      return (unit && count < 10 ? count.toFixed(1) : Math.round(count)) + " " + units[unit];
    }

    /* What is known of a host: dials that are refused are worse news than what the probes say. */
    function hostState(host) {
      if (host.breaker !== "closed") return ["out of reach", "bad"];
      if (host.state === "unknown") return [host.probed ? "unknown" : "not probed", "unknown"];
      return host.state === "up" ? ["up", "good"] : ["down", "bad"];
    }

    function showHosts(hosts) {
      const table = byID("hosts");
      if (!hosts.length) return table.replaceChildren(make("caption", "empty quiet", "none known yet"));
      const head = make("thead"), body = make("tbody"), names = head.appendChild(make("tr"));
      for (const name of ["host", "state", "role", "round trip", "behind", "probes", "databases, last error"])
        names.append(make("th", "", name));
      body.append(...hosts.map(host => {
        const row = make("tr"), cell = (className, text) => row.appendChild(make("td", className, text));
        const [text, kind] = hostState(host);
        cell("host", host.host);
        cell("").append(make("span", "pill " + kind, text));
        cell("", host.role ? host.role + (host.role === "primary" && host.read_only ? ", read-only" : "") : "–");
        cell("", duration(host.latency_us)).dataset.name = "round trip";
        cell("", host.lag_us === null ? "–" : host.lag_us === 0 ? "0 s"
          : duration(host.lag_us) + (host.lag_bytes ? ", " + bytes(host.lag_bytes) : "")).dataset.name = "behind";
        const history = cell("").appendChild(make("span", "history"));
        history.setAttribute("role", "img");
        history.setAttribute("aria-label", "the last probes, oldest first: " + (host.history || "none"));
        history.append(...[...host.history].map(outcome => make("i", { "-": "bad", "!": "warn" }[outcome])));
        const last = cell("last", host.databases.join(", "));
        if (host.last_error) last.append(make("div", "error", host.last_error));
        return row;
      }));
      table.replaceChildren(head, body);
    }

    function showEvents(events) {
      const table = byID("events");
      if (!events.length) return table.replaceChildren(make("caption", "empty quiet", "none yet"));
      table.replaceChildren(...events.slice(-50).reverse().map(event => {
        const row = make("tr");
        row.append(make("td", "time", new Date(event.time_us / 1000).toLocaleTimeString([], { hour12: false })));
        row.append(make("td", "kind", event.kind.replaceAll("_", " ") + (event.count > 1 ? " ×" + event.count : "")));
        row.append(make("td", "", [event.pool, event.detail].filter(Boolean).join(": ")));
        return row;
      }));
    }

    /* States of the last seconds, oldest first; the oldest is what rates are measured from. */
    let past = [];
    function show(now) {
      if (past.length && past[0].start_time_us !== now.start_time_us) past = [];
      while (past.length > 1 && now.time_us - past[1].time_us >= WINDOW_US) past.shift();
      const before = past.length ? past[0] : null;
      past.push(now);

      const key = pool => JSON.stringify([pool.database, pool.user]);
      const earlier = new Map(before ? before.pools.map(pool => [key(pool), pool]) : []);
      const wanted = byID("filter").value.toLowerCase();
      const sum = { tps: null, waiting: 0, used: 0, bound: 0, counts: new Map() };
      const gone = new Set(rows.keys());
      for (const pool of now.pools) {
        const change = between(earlier.get(key(pool)), pool, before ? now.time_us - before.time_us : 0);
        const row = poolRow(key(pool), pool);
        gone.delete(key(pool));
        showPool(row, pool, change, now.bucket_bounds_us);
        row.card.hidden = !(pool.database + "/" + pool.user).toLowerCase().includes(wanted);
        if (!row.card.isConnected) byID("pools").append(row.card);
        if (change.tps !== null) sum.tps += change.tps;
        for (const [bucket, count] of change.counts) sum.counts.set(bucket, (sum.counts.get(bucket) || 0) + count);
        sum.waiting += pool.waiting;
        sum.used += pool.checked_out;
        sum.bound += pool.pool_size + pool.max_overflow;
      }
      for (const name of gone) {
        rows.get(name).card.remove();
        rows.delete(name);
      }
      byID("filter").hidden = now.pools.length < 8;

      const p50 = quantile(sum.counts, .5, now.bucket_bounds_us), p99 = quantile(sum.counts, .99, now.bucket_bounds_us);
      tile("transactions", rate(sum.tps), " /s", sum.tps);
      tile("clients", now.clients, " of " + now.max_clients.toLocaleString("en"), now.clients);
      tile("waiting", sum.waiting, "", sum.waiting);
      tile("connections used", sum.used, " of " + sum.bound, sum.used);
      tile("wait p50", duration(p50), "", p50);
      tile("wait p99", duration(p99), "", p99);

      const ill = now.pools.filter(pool => pool.standing === "outage" || pool.standing === "rejected").length;
      state(...(now.draining ? ["draining", "warn"] : now.paused ? ["paused", "warn"]
        : ill ? [ill + (ill > 1 ? " pools" : " pool") + " in trouble", "bad"] : ["serving", "good"]));
      byID("about").textContent = ["version " + now.version, "up " + age(now.time_us - now.start_time_us),
        now.workers + (now.workers === 1 ? " worker" : " workers"), now.event_loop].join(" · ");
      showHosts(now.hosts);
      showEvents(now.events);
      byID("live").hidden = false;
    }

    function state(text, kind) {
      byID("state").textContent = text;
      byID("state").className = "pill " + kind;
    }

    async function poll() {
      try {
        if (!document.hidden) {
          const answer = await fetch("/api/status", { cache: "no-store", signal: AbortSignal.timeout(5000) });
          if (!answer.ok) throw new Error("HTTP status " + answer.status);
          show(await answer.json());
        }
      } catch (error) {
        state("no answer", "bad");
        console.error(error);
      }
      setTimeout(poll, POLL_MS);
    }

    poll();
    </script>
    </body>
    </html>
    """#
}
