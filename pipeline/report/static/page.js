"use strict";
// Draws every score chart again at the page's own width and at any zoom, from the envelope embedded beside it.
(function () {
  var LEFT = 46, RIGHT = 8, TOP = 16, PLOT = 170, LANE = 12, AXIS = 24, HEIGHT = TOP + PLOT + 6 + LANE + AXIS, BOTTOM = TOP + PLOT;
  var NS = "http://www.w3.org/2000/svg", MISSING = 65535, BELOW = 0.4;
  var LOOKS = ["alert", "alert false", "alert untold"];
  var STEPS = [1, 5, 15, 60, 300, 900, 3600, 10800, 21600, 43200, 86400, 172800, 604800, 1209600, 2592000, 7776000, 31536000];

  function unpack(text) {
    var raw = atob(text), bytes = new Uint8Array(raw.length);
    for (var i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
    var view = new DataView(bytes.buffer), out = new Uint16Array(raw.length / 2);
    for (var j = 0; j < out.length; j++) out[j] = view.getUint16(2 * j, true);
    return out;
  }
  function pad(n) { return (n < 10 ? "0" : "") + n; }
  var MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
  function tickText(ms, step) {
    var d = new Date(ms), day = pad(d.getUTCDate()) + " " + MONTHS[d.getUTCMonth()];
    if (step >= 86400) return day;
    var clock = pad(d.getUTCHours()) + ":" + pad(d.getUTCMinutes());
    return step < 60 ? clock + ":" + pad(d.getUTCSeconds()) : day + " " + clock;
  }
  function stamp(ms) {
    var d = new Date(ms);
    return d.getUTCFullYear() + "-" + pad(d.getUTCMonth() + 1) + "-" + pad(d.getUTCDate()) + " " + pad(d.getUTCHours()) + ":" + pad(d.getUTCMinutes());
  }
  function node(name, attributes, text) {
    var e = document.createElementNS(NS, name);
    for (var k in attributes) e.setAttribute(k, attributes[k]);
    if (text !== undefined) e.textContent = text;
    return e;
  }

  function Chart(host) {
    this.host = host;
    this.data = JSON.parse(host.querySelector("script").textContent);
    this.q = unpack(this.data.q);
    this.svg = host.querySelector("svg");
    this.a = this.data.t0; this.b = Math.max(this.data.t1, this.data.t0 + 1);
    this.least = Math.max(1, 8 * (this.b - this.a) / Math.max(1, this.data.n));
    this.tools(); this.listen(); this.draw();
  }
  Chart.prototype.tools = function () {
    var self = this, bar = document.createElement("div");
    bar.className = "tools";
    function button(text, label, action) {
      var b = document.createElement("button");
      b.type = "button"; b.textContent = text; b.setAttribute("aria-label", label); b.title = label;
      b.addEventListener("click", action); bar.appendChild(b); return b;
    }
    button("+", "Zoom in", function () { self.around((self.a + self.b) / 2, (self.b - self.a) / 2); });
    button("−", "Zoom out", function () { self.around((self.a + self.b) / 2, (self.b - self.a) * 2); });
    button("◀", "Earlier", function () { self.shift(-0.5); });
    button("▶", "Later", function () { self.shift(0.5); });
    this.whole = button("Whole period", "Show the whole period", function () { self.zoom(self.data.t0, self.data.t1); });
    this.read = document.createElement("span"); this.read.className = "read";
    this.hint = "Drag across the chart to zoom in"; this.read.textContent = this.hint;
    bar.appendChild(this.read); this.host.appendChild(bar);
  };
  Chart.prototype.around = function (middle, span) { this.zoom(middle - span / 2, middle + span / 2); };
  Chart.prototype.shift = function (share) {
    var by = (this.b - this.a) * share;
    by = Math.max(this.data.t0 - this.a, Math.min(this.data.t1 - this.b, by));
    this.zoom(this.a + by, this.b + by);
  };
  Chart.prototype.zoom = function (a, b) {
    if (b - a < this.least) { var m = (a + b) / 2; a = m - this.least / 2; b = m + this.least / 2; }
    this.a = Math.max(this.data.t0, a); this.b = Math.min(Math.max(this.data.t1, this.data.t0 + 1), b);
    if (this.b - this.a < 1) this.b = this.a + 1;
    this.draw();
  };
  Chart.prototype.x = function (ms) { return LEFT + (ms - this.a) / (this.b - this.a) * (this.width - LEFT - RIGHT); };
  Chart.prototype.time = function (x) { return this.a + (x - LEFT) / (this.width - LEFT - RIGHT) * (this.b - this.a); };
  Chart.prototype.spanAt = function (ms) {
    var d = this.data;
    return Math.max(0, Math.min(d.n - 1, Math.round((ms - d.t0) / Math.max(1e-9, d.t1 - d.t0) * (d.n - 1))));
  };
  Chart.prototype.path = function () {
    var first = Math.max(0, this.spanAt(this.a) - 1), last = Math.min(this.data.n - 1, this.spanAt(this.b) + 1);
    var columns = Math.max(1, Math.floor(this.width - LEFT - RIGHT)), per = Math.max(1, Math.ceil((last - first + 1) / columns));
    var out = [], pen = false, width = (this.data.t1 - this.data.t0) / Math.max(1, this.data.n - 1), q = this.q;
    for (var i = first; i <= last; i += per) {
      var low = 2, high = -1, end = Math.min(last + 1, i + per);
      for (var j = i; j < end; j++) {
        if (q[2 * j] === MISSING) continue;
        low = Math.min(low, q[2 * j] / 65534); high = Math.max(high, q[2 * j + 1] / 65534);
      }
      if (high < 0) { pen = false; continue; }
      var x = this.x(this.data.t0 + (i + (end - 1 - i) / 2) * width).toFixed(1);
      out.push((pen ? "L" : "M") + x + " " + (BOTTOM - high * PLOT).toFixed(1));
      if (!pen || high !== low) out.push("L" + x + " " + (BOTTOM - low * PLOT).toFixed(1));
      pen = true;
    }
    return out.join("");
  };
  Chart.prototype.draw = function () {
    var width = Math.round(this.host.clientWidth);
    if (!width) return;
    this.width = width;
    var d = this.data, svg = this.svg, self = this, right = width - RIGHT, id = this.host.id;
    while (svg.firstChild) svg.removeChild(svg.firstChild);
    svg.setAttribute("viewBox", "0 0 " + width + " " + HEIGHT);
    var plot = node("clipPath", { id: id + "-plot" });
    plot.appendChild(node("rect", { x: LEFT, y: 0, width: right - LEFT, height: HEIGHT })); svg.appendChild(plot);
    var inside = node("g", { "clip-path": "url(#" + id + "-plot)" });
    function seen(s, e) { return e >= self.a && s <= self.b; }
    d.incidents.forEach(function (i) {
      if (!seen(i[0], i[1])) return;
      var x = self.x(i[0]), w = self.x(i[1]) - x;
      inside.appendChild(node("rect", { "class": "incident", x: x, y: TOP, width: Math.max(1.5, w), height: PLOT }));
      inside.appendChild(node("rect", { "class": i[2] ? "incident-found" : "incident-missed", x: x, y: 2, width: Math.max(3, w), height: 10 }));
    });
    d.ticks.forEach(function (t) {
      var y = BOTTOM - t[0] * PLOT;
      svg.appendChild(node("line", { "class": "grid", x1: LEFT, x2: right, y1: y, y2: y }));
      svg.appendChild(node("text", { "class": "tick", x: LEFT - 6, y: y + 4, "text-anchor": "end" }, t[1]));
    });
    svg.appendChild(inside);
    var span = (this.b - this.a) / 1000, most = Math.max(2, Math.floor(width / 130));
    var step = STEPS.filter(function (s) { return span / s <= most; })[0] || Math.ceil(span / most);
    for (var t = Math.ceil(this.a / 1000 / step) * step; t * 1000 <= this.b; t += step) {
      var at = this.x(t * 1000), text = tickText(t * 1000, step), half = text.length * 3.1;
      if (at - half < 0 || at + half > width) continue;
      svg.appendChild(node("text", { "class": "tick", x: at, y: HEIGHT - 6, "text-anchor": "middle" }, text));
    }
    var path = this.path();
    inside.appendChild(node("path", { "class": "level", d: path }));
    if (d.relative) {
      var y = BOTTOM - BELOW * PLOT, above = node("clipPath", { id: id + "-over" });
      above.appendChild(node("rect", { x: LEFT, y: 0, width: right - LEFT, height: y })); svg.appendChild(above);
      var over = node("g", { "clip-path": "url(#" + id + "-over)" });
      over.appendChild(node("path", { "class": "level above", d: path })); svg.appendChild(over);
      svg.appendChild(node("line", { "class": "threshold", x1: LEFT, x2: right, y1: y, y2: y }));
    }
    d.alerts.forEach(function (a) {
      if (!seen(a[0], a[1])) return;
      var x = self.x(a[0]);
      inside.appendChild(node("rect", { "class": LOOKS[a[2]], x: x, y: BOTTOM + 6, width: Math.max(3, self.x(a[1]) - x), height: LANE }));
    });
    this.cursor = node("line", { "class": "cursor", y1: TOP, y2: BOTTOM, visibility: "hidden" }); svg.appendChild(this.cursor);
    this.brush = node("rect", { "class": "brush", y: TOP, height: PLOT, visibility: "hidden" }); svg.appendChild(this.brush);
    this.whole.disabled = this.a <= d.t0 && this.b >= d.t1;
  };
  Chart.prototype.level = function (height) {
    var d = this.data;
    if (!d.relative) return d.bottom + height * (d.top - d.bottom);
    return height <= BELOW ? height / BELOW : Math.exp((height - BELOW) / (1 - BELOW) * Math.log(d.top));
  };
  Chart.prototype.hover = function (x) {
    if (x < LEFT || x > this.width - RIGHT) { this.cursor.setAttribute("visibility", "hidden"); this.read.textContent = this.hint; return; }
    var ms = this.time(x), high = this.q[2 * this.spanAt(ms) + 1];
    this.cursor.setAttribute("x1", x); this.cursor.setAttribute("x2", x); this.cursor.setAttribute("visibility", "visible");
    var value = high === MISSING ? "no score" : "score " + this.level(high / 65534).toPrecision(2).replace(/e\+?/, "e") + (this.data.relative ? " × alert line" : "");
    this.read.textContent = stamp(ms) + " UTC · " + value;
  };
  Chart.prototype.listen = function () {
    var self = this, svg = this.svg, from = null;
    function at(e) { var box = svg.getBoundingClientRect(); return (e.clientX - box.left) * (self.width / Math.max(1, box.width)); }
    svg.addEventListener("pointerdown", function (e) { if (e.button === 0) { from = at(e); svg.setPointerCapture(e.pointerId); } });
    svg.addEventListener("pointermove", function (e) {
      var x = at(e); self.hover(x);
      if (from !== null) {
        self.brush.setAttribute("x", Math.min(from, x)); self.brush.setAttribute("width", Math.abs(x - from));
        self.brush.setAttribute("visibility", "visible");
      }
    });
    svg.addEventListener("pointerup", function (e) {
      if (from === null) return;
      var x = at(e), start = from; from = null;
      self.brush.setAttribute("visibility", "hidden");
      if (Math.abs(x - start) > 6) self.zoom(self.time(Math.min(x, start)), self.time(Math.max(x, start)));
    });
    svg.addEventListener("pointercancel", function () { from = null; self.brush.setAttribute("visibility", "hidden"); });
    svg.addEventListener("pointerleave", function () { if (from === null) self.hover(-1); });
    svg.addEventListener("dblclick", function () { self.zoom(self.data.t0, self.data.t1); });
  };

  var charts = {};
  function chartOf(host) { return charts[host.id] || (charts[host.id] = new Chart(host)); }
  function drawVisible() {
    document.querySelectorAll("[data-chart]").forEach(function (host) {
      if (!host.clientWidth) return;
      var chart = chartOf(host);
      if (chart.width !== Math.round(host.clientWidth)) chart.draw();
    });
  }
  var waiting = null;
  window.addEventListener("resize", function () { clearTimeout(waiting); waiting = setTimeout(drawVisible, 120); });
  document.querySelectorAll("details").forEach(function (d) { d.addEventListener("toggle", drawVisible); });
  document.addEventListener("click", function (e) {
    var go = e.target.closest && e.target.closest("button.go");
    if (!go) return;
    var host = document.getElementById(go.getAttribute("data-in"));
    for (var up = host; up; up = up.parentElement) if (up.tagName === "DETAILS") up.open = true;
    var a = +go.getAttribute("data-from"), b = +go.getAttribute("data-to"), chart = chartOf(host);
    var margin = Math.max((b - a) * 3, chart.least * 6);
    chart.width = 0; chart.zoom(a - margin, b + margin);
    host.scrollIntoView({ block: "center" });
  });
  function openTarget() {
    var target = location.hash.length > 1 && document.getElementById(location.hash.slice(1));
    for (var up = target; up; up = up.parentElement) if (up.tagName === "DETAILS") up.open = true;
    drawVisible();
  }
  window.addEventListener("hashchange", openTarget);
  window.addEventListener("beforeprint", function () { document.querySelectorAll("details.site").forEach(function (d) { d.open = true; }); });
  openTarget();
})();
