"use strict";
(function () {
  const sheet = JSON.parse(document.getElementById("data").textContent);
  const cases = sheet.cases;
  const byId = new Map(cases.map(function (one) { return [one.id, one]; }));
  const isServed = document.querySelector('meta[name="medseg-mode"]').content === "server";
  const SCHEMA = "medseg.review/1", PAGE = 200, POLL_MS = 10000;
  const KEPT = "medseg.review:" + sheet.sheet;
  const WORDS = { unreviewed: "To review", accepted: "Accepted", rejected: "Rejected", to_fix: "To fix", corrected: "Corrected", void: "Result changed" };
  const STANDING = { accept: "accepted", reject: "rejected", fix: "to_fix", undecided: "unreviewed" };
  const FILTERS = [["open", "To review"], ["all", "All"], ["accepted", "Accepted"], ["rejected", "Rejected"], ["to_fix", "To fix"], ["corrected", "Corrected"], ["failed", "Failed"], ["not_run", "Not run"]];
  const SORTS = [["score", "most suspicious"], ["id", "case id"], ["modality", "modality"], ["time", "last decided"]];
  const at = function (id) { return document.getElementById(id); };

  const decisions = {};   // what stands, by case id: also of cases that this sheet does not show
  const given = {};       // what stood when the sheet was written
  const unsaved = new Set();
  const sending = new Set();
  let filter = "open", sort = "score", segment = -1, shown = [], page = 0, current = null, failures = 0;

  cases.forEach(function (one) {
    if (one.decision) { decisions[one.id] = given[one.id] = one.decision; }
    one.text = [one.id, one.modality || "", one.code || "", one.message || ""].concat(one.reasons || [], (one.volumes || []).map(function (row) { return row[0] + " " + row[3]; })).join(" ").toLowerCase();
  });

  // ---- what stands ------------------------------------------------------------------------------------------------
  function same(a, b) { return !!a && !!b && a.time === b.time && a.decision === b.decision && a.reviewer === b.reviewer; }
  function standing(one) {
    const decision = decisions[one.id];
    if (one.status !== "done") { return one.status; }
    if (!decision || decision.decision === "undecided") { return "unreviewed"; }
    if (same(decision, given[one.id])) { return one.standing || "unreviewed"; }
    return decision.result === (one.mark || "") ? STANDING[decision.decision] : "void";
  }
  function isOpen(one) { const where = standing(one); return where === "unreviewed" || where === "void"; }
  function later(a, b) { return !b || Date.parse(a.time) > Date.parse(b.time); }
  function isDecision(entry) {
    return !!entry && typeof entry === "object" && Object.hasOwn(STANDING, entry.decision) && typeof entry.reviewer === "string" && !isNaN(Date.parse(entry.time)) &&
      ["comment", "result"].every(function (name) { return entry[name] === undefined || typeof entry[name] === "string"; });
  }
  function merge(found) {
    const changed = [];
    Object.keys(found).forEach(function (id) {
      if (/^[0-9a-f]{16}$/.test(id) && isDecision(found[id]) && !same(found[id], decisions[id]) && later(found[id], decisions[id])) {
        decisions[id] = found[id];
        changed.push(id);
      }
    });
    return changed;
  }

  // ---- deciding ---------------------------------------------------------------------------------------------------
  function say(text, kind) { at("said").textContent = text; at("said").className = "said" + (kind ? " " + kind : ""); }
  function now(before) {
    // a clock that runs behind must not lose against the decision that this one follows
    const least = before && !isNaN(Date.parse(before.time)) ? Date.parse(before.time) + 1 : 0;
    return new Date(Math.max(Date.now(), least)).toISOString();
  }
  function record(one, decision, comment) {
    const name = at("reviewer").value.trim();
    if (!name) {
      at("reviewer").classList.add("missing");
      at("reviewer").focus();
      say("Write your name first: a decision says whose it is.", "bad");
      return false;
    }
    decisions[one.id] = { decision: decision, reviewer: name, time: now(decisions[one.id]), comment: comment, result: one.mark || "" };
    unsaved.add(one.id);
    keep(); refresh(one); count();
    if (isServed) { send(); }
    return true;
  }
  function decide(one, decision, moves) {
    if (one.status !== "done") { return; }
    const box = row(one) && row(one).querySelector(".decide input");
    if (record(one, decision, box ? box.value.trim() : "")) {
      say(WORDS[STANDING[decision]] + ": " + one.id + (isServed ? "" : ". Download review.json to keep it."), "");
      if (moves && decision !== "undecided") { move(1); }
    }
  }
  function comment(one, text) {
    const decision = decisions[one.id];
    if (decision && decision.comment !== text && decision.decision !== "undecided" && standing(one) !== "void") { record(one, decision.decision, text); }
  }

  // ---- keeping ----------------------------------------------------------------------------------------------------
  function keep() {
    const mine = {};
    unsaved.forEach(function (id) { mine[id] = decisions[id]; });
    try {
      localStorage.setItem("medseg.reviewer", at("reviewer").value.trim());
      if (unsaved.size) { localStorage.setItem(KEPT, JSON.stringify(mine)); } else { localStorage.removeItem(KEPT); }
    } catch (err) { return; }  // no storage: the file that is downloaded is what counts
  }
  function recall() {
    try {
      at("reviewer").value = localStorage.getItem("medseg.reviewer") || "";
      const found = merge(JSON.parse(localStorage.getItem(KEPT) || "{}"));
      found.forEach(function (id) { unsaved.add(id); });
      if (found.length) { say(found.length + " decisions of an earlier visit are here again" + (isServed ? "." : ": download review.json to keep them."), ""); }
    } catch (err) { return; }
  }
  function download() {
    const sorted = {};
    Object.keys(decisions).sort().forEach(function (id) { sorted[id] = decisions[id]; });
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([JSON.stringify({ schema: SCHEMA, decisions: sorted }, null, 1) + "\n"], { type: "application/json" }));
    link.download = "review.json";
    document.body.append(link); link.click(); link.remove();
    setTimeout(function () { URL.revokeObjectURL(link.href); }, 10000);
    unsaved.clear(); keep(); count();
    say("review.json holds " + plural(Object.keys(sorted).length, "decision") + ": put it beside qc.html, then run medseg report.", "good");
  }
  async function loaded(file) {
    try {
      if (file.size > 1 << 28) { throw new Error("it is too large"); }
      const document_ = JSON.parse(await file.text());
      if (!document_ || document_.schema !== SCHEMA || typeof document_.decisions !== "object" || !document_.decisions) { throw new Error("it is no file of decisions"); }
      const total = Object.keys(document_.decisions).length;
      const changed = merge(document_.decisions);
      changed.forEach(function (id) { unsaved.add(id); });
      keep(); list();
      say(file.name + ": " + plural(changed.length, "decision") + " taken, " + (total - changed.length) + " older than what is here or not readable.", "good");
      if (isServed) { send(); }
    } catch (err) {
      say(file.name + " was not loaded: " + (err instanceof SyntaxError ? "it is no JSON" : err.message) + ".", "bad");
    }
  }
  async function send() {
    if (sending.size || !unsaved.size) { return; }
    unsaved.forEach(function (id) { sending.add(id); });
    const mine = {};
    sending.forEach(function (id) { mine[id] = decisions[id]; });
    try {
      const answer = await fetch("decisions", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ schema: SCHEMA, decisions: mine }) });
      const document_ = await answer.json();
      if (!answer.ok) { throw new Error(document_.error || "error " + answer.status); }
      sending.forEach(function (id) { if (same(decisions[id], mine[id])) { unsaved.delete(id); } });
      failures = 0;
      taken(document_.decisions); keep(); count();
    } catch (err) {
      failures += 1;
      say("Not saved yet (" + err.message + "): it is kept here and tried again.", "bad");
      setTimeout(send, Math.min(30000, 1000 * 2 ** failures));
    }
    sending.clear();
    if (unsaved.size && !failures) { send(); }
  }
  async function poll() {
    try {
      const answer = await fetch("review.json");
      if (answer.ok) { taken((await answer.json()).decisions); }
    } catch (err) { return; }  // the program has ended: the next decision says so
  }
  function taken(found) {
    const changed = merge(found).filter(function (id) { return byId.has(id); });
    changed.forEach(function (id) { unsaved.delete(id); refresh(byId.get(id)); });
    if (changed.length) { say(plural(changed.length, "decision") + " of another reviewer came in.", ""); count(); }
  }

  // ---- showing ----------------------------------------------------------------------------------------------------
  function plural(n, word) { return n.toLocaleString("en") + " " + word + (n === 1 ? "" : "s"); }
  function make(tag, kind, text) {
    const element = document.createElement(tag);
    if (kind) { element.className = kind; }
    if (text !== undefined && text !== "") { element.textContent = text; }
    return element;
  }
  function button(kind, text, key, action) {
    const element = make("button", kind);
    element.type = "button";
    element.append(make("span", "", text));
    if (key) { element.append(make("kbd", "", key)); element.setAttribute("aria-keyshortcuts", key); }
    element.addEventListener("click", action);
    return element;
  }
  function row(one) { return document.getElementById("case-" + one.id); }
  function picture(one) {
    if (!one.picture) { return make("div", "nothing", one.status === "done" ? "no picture" : one.status === "failed" ? "failed: no picture" : "not run yet"); }
    const frame = button("strip", "", "", function () { zoom(one); });
    frame.setAttribute("aria-label", "Larger picture of case " + one.id);
    const image = make("img");
    image.alt = "Case " + one.id + ": axial, coronal and sagittal plane with outlines, surfaces from the front";
    image.width = 646; image.height = 160;
    if (sheet.lazy) { image.loading = "lazy"; }
    image.decoding = "async";
    image.src = one.picture;
    image.addEventListener("error", function () { frame.replaceWith(make("div", "nothing", "the picture is not where it was: keep qc.html in the folder of the batch")); });
    frame.replaceChildren(image);
    return frame;
  }
  function volumes(rows) {
    const table = make("table", "volumes");
    rows.forEach(function (entry) {
      const line = table.insertRow();
      const head = make("th");
      head.scope = "row";
      const swatch = make("span", "swatch");
      if (/^#[0-9a-f]{6}$/.test(entry[5])) { swatch.style.background = entry[5]; } else { swatch.classList.add("none"); }
      head.append(swatch);
      entry[0].split("_").forEach(function (part, n) { if (n) { head.append("_", make("wbr")); } head.append(part); });
      line.append(head, make("td", "ml", entry[1] ? entry[1] + " ml" : ""), make("td", entry[1] ? "soft" : "soft words", entry[1] ? entry[2] : entry[3]));
      const cell = make("td", "words", entry[1] && entry[3] ? entry[3].split(" ")[0] : "");  // "cut": the whole of it on hovering, and read out
      if (entry[1] && entry[3]) { cell.title = entry[3]; cell.setAttribute("aria-label", entry[3]); }
      line.append(cell);
    });
    return table;
  }
  function reasons(texts) {
    const listed = make("ul", "reasons"), hidden = Math.max(0, texts.length - 3), words = hidden ? plural(hidden, "more reason") : "whole text";
    texts.forEach(function (text) { listed.append(make("li", "", text)); });
    if (!hidden && texts.every(function (text) { return text.length < 120; })) { return [listed]; }
    const more = button("more", words, "", function () {
      const isOpen_ = listed.classList.toggle("open");
      more.setAttribute("aria-expanded", String(isOpen_));
      more.textContent = isOpen_ ? "fewer" : words;
    });
    more.setAttribute("aria-expanded", "false");
    return [listed, more];
  }
  function about(one) {
    const part = make("div", "about"), head = make("h2"), score = one.score || 0;
    head.append(make("code", "", one.id));
    if (one.status === "done") {
      const mark = make("span", "score" + (score >= 60 ? " much" : score >= 30 ? " some" : ""), "suspicion " + score);
      mark.title = "0 to 100: what speaks for looking at this case first";
      head.append(mark);
    } else { head.append(make("span", "score much", one.code || one.status.replace("_", " "))); }
    head.append(make("span", "", one.modality));
    if (/^cases\/[0-9a-f]{2}\/[0-9a-f]{16}\/[\w./-]+$/.test(one.report || "")) { const link = make("a", "", "report"); link.href = one.report; link.target = "_blank"; link.rel = "noopener"; head.append(link); }
    part.append(head);
    if (one.message) { part.append(make("p", "message " + (one.status === "done" ? "caution" : "bad"), one.message)); }
    if (one.reasons) { part.append.apply(part, reasons(one.reasons)); }
    const rows = one.volumes || [], few = rows.length > 7 ? 5 : rows.length;
    if (few) { part.append(volumes(rows.slice(0, few))); }
    if (rows.length > few) {
      const more = make("details"), summary = make("summary", "", "and " + (rows.length - few) + " more");
      more.append(summary, volumes(rows.slice(few)));
      part.append(more);
    }
    return part;
  }
  function decider(one) {
    const part = make("div", "decide");
    part.setAttribute("role", "group"); part.setAttribute("aria-label", "Decision on case " + one.id);
    if (one.status !== "done") { return part; }
    [["accept", "Accept", "a"], ["reject", "Reject", "r"], ["fix", "Fix", "f"]].forEach(function (entry) {
      part.append(button(entry[0], entry[1], entry[2], function () {
        choose(one, false);
        decide(one, decisions[one.id] && decisions[one.id].decision === entry[0] && standing(one) !== "void" ? "undecided" : entry[0], false);
      }));
    });
    const box = make("input");
    box.type = "text"; box.maxLength = 4000; box.placeholder = "Comment";
    box.setAttribute("aria-label", "Comment on case " + one.id);
    box.addEventListener("change", function () { comment(one, box.value.trim()); });
    part.append(box, make("p", "by"));
    return part;
  }
  function refresh(one) {
    const element = row(one);
    if (!element) { return; }
    const where = standing(one), decision = decisions[one.id], stands = !!decision && decision.decision !== "undecided" && where !== "void";
    element.className = "case " + where + (one === current ? " current" : "");
    element.querySelectorAll(".decide button").forEach(function (one_) { one_.setAttribute("aria-pressed", String(stands && one_.classList.contains(decision.decision))); });
    const box = element.querySelector(".decide input"), by = element.querySelector(".by");
    if (box && document.activeElement !== box) { box.value = decision && decision.comment || ""; }
    if (by) { by.textContent = !decision || decision.decision === "undecided" ? "" : (where === "void" ? "the result changed since: decide again. " : where === "corrected" ? "corrected; the picture shows it before. " : "") + decision.reviewer + ", " + decision.time.slice(0, 16).replace("T", " "); }
  }
  function count() {
    const totals = { all: cases.length, open: 0 };
    let toReview = 0;
    cases.forEach(function (one) {
      const where = standing(one);
      totals[where] = (totals[where] || 0) + 1;
      if (one.status === "done") { toReview += 1; if (isOpen(one)) { totals.open += 1; } }
    });
    const done = toReview - totals.open;
    at("progress").textContent = done.toLocaleString("en") + " of " + toReview.toLocaleString("en") + " reviewed";
    at("done").style.width = (toReview ? 100 * done / toReview : 0) + "%";
    at("filters").querySelectorAll("button").forEach(function (one) {
      const name = one.dataset.filter, total = totals[name] || 0;
      one.querySelector("b").textContent = total.toLocaleString("en");
      one.setAttribute("aria-pressed", String(name === filter));
      one.hidden = !total && name !== filter && name !== "open" && name !== "all";
    });
    at("save").textContent = isServed ? (unsaved.size ? "Saving …" : "Saved in review.json") : "Download review.json" + (unsaved.size ? " (" + unsaved.size + " new)" : "");
  }
  function compare(a, b) {
    const order = { done: 0, failed: 1, not_run: 2 };
    if (sort === "score" && (a.status !== b.status)) { return order[a.status] - order[b.status]; }
    let x = 0, y = 0;
    if (sort === "score") { x = -(a.score || 0); y = -(b.score || 0); }
    if (sort === "modality") { x = a.modality || "~"; y = b.modality || "~"; }
    if (sort === "time") { x = -(decisions[a.id] ? Date.parse(decisions[a.id].time) : 0); y = -(decisions[b.id] ? Date.parse(decisions[b.id].time) : 0); }
    if (segment >= 0) { x = amount(a); y = amount(b); }
    return x < y ? -1 : x > y ? 1 : a.id < b.id ? -1 : 1;
  }
  function amount(one) {  // largest first; cases without a volume of this segment last
    const entry = (one.volumes || []).find(function (row_) { return row_[0] === segments[segment]; });
    return entry && entry[4] !== null ? -entry[4] : Infinity;
  }
  function list() {
    const words = at("search").value.trim().toLowerCase().split(/\s+/).filter(Boolean);
    shown = cases.filter(function (one) {
      if (filter === "open" ? !isOpen(one) : filter !== "all" && standing(one) !== filter) { return false; }
      return words.every(function (word) { return one.text.includes(word); });
    }).sort(compare);
    page = 0; draw(shown[0] || null); count();
  }
  function draw(next) {
    const last = Math.max(0, Math.ceil(shown.length / PAGE) - 1);
    page = Math.min(page, last);
    const part = shown.slice(page * PAGE, page * PAGE + PAGE), fragment = document.createDocumentFragment();
    part.forEach(function (one) {
      const element = make("article", "case");
      element.id = "case-" + one.id; element.tabIndex = -1;
      element.setAttribute("aria-label", "Case " + one.id);
      element.addEventListener("pointerdown", function () { choose(one, false); });
      element.addEventListener("focusin", function () { choose(one, false); });
      element.append(picture(one), about(one), decider(one));
      fragment.append(element);
    });
    if (!part.length) { fragment.append(make("p", "empty", cases.length ? filter === "open" && !at("search").value ? "Nothing is left to review." : "No case is like that." : "This batch has no cases.")); }
    at("cases").replaceChildren(fragment);
    part.forEach(refresh);
    at("pages").hidden = !last;
    at("page").textContent = "page " + (page + 1) + " of " + (last + 1);
    at("before").disabled = page === 0; at("after").disabled = page === last;
    current = null;
    if (next) { choose(next, false); }
  }
  function turn(step) { page += step; draw(shown[page * PAGE] || null); window.scrollTo(0, 0); }
  function choose(one, scrolls) {
    if (current && current !== one && row(current)) { row(current).classList.remove("current"); }
    current = one;
    const element = row(one);
    if (!element) { return; }
    element.classList.add("current");
    if (scrolls) { element.focus({ preventScroll: true }); element.scrollIntoView({ block: "center" }); }
  }
  function move(step) {
    const place = shown.indexOf(current) + step;
    if (place < 0 || place >= shown.length) { return; }
    if (Math.floor(place / PAGE) !== page) { page = Math.floor(place / PAGE); draw(null); }
    choose(shown[place], true);
  }
  function zoom(one) {
    if (!one || !one.picture) { return; }
    at("large").src = one.picture; at("large").alt = "Case " + one.id; at("zoom").showModal();
  }

  // ---- hands ------------------------------------------------------------------------------------------------------
  const KEYS = { a: "accept", r: "reject", f: "fix", u: "undecided" };
  function pressed(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) { return; }
    const target = event.target, isText = target.matches("select, input:not([type=file])");
    if (event.key === "Escape" && isText) { target.blur(); if (current) { choose(current, true); } return; }
    if (isText) { if (event.key === "Enter" && target.tagName === "INPUT") { target.blur(); if (current) { choose(current, true); } } return; }
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    if (event.repeat && Object.hasOwn(KEYS, key)) { return; }  // a key that is held decides one case, not all of them
    if (Object.hasOwn(KEYS, key) && current) { decide(current, KEYS[key], true); }
    else if (key === "ArrowDown" || key === "j") { move(1); }
    else if (key === "ArrowUp" || key === "k") { move(-1); }
    else if (key === "c" && current && row(current).querySelector(".decide input")) { row(current).querySelector(".decide input").focus(); }
    else if (key === "z") { zoom(current); }
    else if (key === "/") { at("search").focus(); }
    else if (key === "?") { at("keys").showModal(); }
    else { return; }
    event.preventDefault();
  }

  // a volume can be sorted by where few segments are common; instances that every case numbers anew are no choice
  const often = new Map();
  cases.forEach(function (one) { (one.volumes || []).forEach(function (row_) { often.set(row_[0], (often.get(row_[0]) || 0) + 1); }); });
  const segments = Array.from(often.keys()).sort(function (a, b) { return often.get(b) - often.get(a) || (a < b ? -1 : 1); }).slice(0, 150);
  SORTS.forEach(function (entry) { at("sort").add(new Option(entry[1], entry[0])); });
  segments.forEach(function (label, n) { at("sort").add(new Option("volume of " + label, "volume " + n)); });
  FILTERS.forEach(function (entry) {
    const one = button("", entry[1] + " ", "", function () { filter = entry[0]; list(); });
    one.dataset.filter = entry[0];
    one.append(make("b"));
    at("filters").append(one);
  });
  at("sort").addEventListener("change", function () { sort = at("sort").value; segment = sort.startsWith("volume ") ? Number(sort.slice(7)) : -1; list(); });
  at("search").addEventListener("input", list);
  at("reviewer").addEventListener("input", function () { at("reviewer").classList.remove("missing"); keep(); });
  at("save").addEventListener("click", function () { if (isServed) { send(); } else { download(); } });
  at("load").addEventListener("click", function () { at("file").click(); });
  at("file").addEventListener("change", function () { if (at("file").files[0]) { loaded(at("file").files[0]); } at("file").value = ""; });
  [["help", function () { at("keys").showModal(); }], ["before", function () { turn(-1); }], ["after", function () { turn(1); }], ["zoom", function () { at("zoom").close(); }]]
    .forEach(function (entry) { at(entry[0]).addEventListener("click", entry[1]); });
  document.addEventListener("keydown", pressed);
  window.addEventListener("beforeunload", function (event) { if (unsaved.size) { event.preventDefault(); } });
  at("how").textContent = isServed ? "Every decision is saved in review.json at once. When you have finished, run medseg report on the folder: the tables and the flow diagram then count your decisions." : "Your decisions stay in this browser until you download review.json. Put it beside qc.html and run medseg report on the folder: the tables and the flow diagram then count your decisions.";
  new ResizeObserver(function () { document.documentElement.style.scrollPaddingTop = document.querySelector(".bar").offsetHeight + "px"; }).observe(document.querySelector(".bar"));
  recall();
  list();
  if (isServed) { at("save").classList.remove("strong"); poll(); send(); setInterval(poll, POLL_MS); }
})();
