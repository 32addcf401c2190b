// The look of the report: its style sheet, and the script behind the pointer. Without the script all else still works.
#pragma once

#include <string_view>

namespace reference {

inline constexpr std::string_view report_style = R"css(
:root{color-scheme:light dark;--bg:#f5f6f8;--card:#fff;--ink:#1a1f26;--soft:#5b6572;--edge:#e1e5ea;--grid:#e9ecf0;
--run:#2161d6;--other:#c2620a;--good:#177245;--mark:#8a94a2;
--hidden:#7a3fd1;--ffn:#0b857b;--heads:#c62a74;--layers:#5c7d0e;--more:#6b7280}
@media (prefers-color-scheme:dark){:root{--bg:#0e1116;--card:#171b22;--ink:#e7eaee;--soft:#9aa5b3;--edge:#2a313b;
--grid:#242a33;--run:#6fa5ff;--other:#f2a154;--good:#5fc990;--mark:#77818f;
--hidden:#b08cf5;--ffn:#3cc4b6;--heads:#f27fb2;--layers:#a6c94a;--more:#9ca3af}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--ink);font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,
"Helvetica Neue",Arial,sans-serif;font-variant-numeric:tabular-nums;-webkit-text-size-adjust:100%}
main{max-width:1060px;margin:0 auto;padding:28px 20px 40px}
h1{font-size:26px;line-height:1.2;margin:0 0 8px;letter-spacing:-.01em}
h2{font-size:17px;margin:0 0 2px}
.lead{margin:0 0 20px;color:var(--soft);max-width:52em}.lead b{color:var(--ink)}
.note{margin:0 0 14px;color:var(--soft);font-size:13.5px}
.card{background:var(--card);border:1px solid var(--edge);border-radius:12px;padding:18px 20px;margin:0 0 16px;position:relative}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(146px,1fr));gap:12px;margin:0 0 16px}
.tile{background:var(--card);border:1px solid var(--edge);border-radius:12px;padding:13px 15px}
.tile .k{color:var(--soft);font-size:12.5px}.tile .v{font-size:23px;font-weight:650;line-height:1.25;white-space:nowrap}
.tile .s{color:var(--soft);font-size:12.5px;line-height:1.35}
.tile.run{border-top:3px solid var(--run)}.tile.other{border-top:3px solid var(--other)}
.pick{position:absolute;opacity:0;pointer-events:none}
.tabs{display:flex;flex-wrap:wrap;gap:8px 14px;margin:12px 0 10px}
.group{display:inline-flex;background:var(--bg);border:1px solid var(--edge);border-radius:9px;padding:2px}
.group label{padding:3px 12px;border-radius:7px;font-size:13.5px;color:var(--soft);cursor:pointer}
#x-seconds:checked~.tabs [for=x-seconds],#x-flops:checked~.tabs [for=x-flops],#x-tokens:checked~.tabs [for=x-tokens],
#y-whole:checked~.tabs [for=y-whole],#y-end:checked~.tabs [for=y-end]{background:var(--card);color:var(--ink);
box-shadow:0 1px 3px #0003}
#x-seconds:focus-visible~.tabs [for=x-seconds],#x-flops:focus-visible~.tabs [for=x-flops],
#x-tokens:focus-visible~.tabs [for=x-tokens],#y-whole:focus-visible~.tabs [for=y-whole],
#y-end:focus-visible~.tabs [for=y-end]{outline:2px solid var(--run)}
.panel{display:none}
#x-seconds:checked~#y-whole:checked~.seconds-whole,#x-flops:checked~#y-whole:checked~.flops-whole,
#x-tokens:checked~#y-whole:checked~.tokens-whole,#x-seconds:checked~#y-end:checked~.seconds-end,
#x-flops:checked~#y-end:checked~.flops-end,#x-tokens:checked~#y-end:checked~.tokens-end{display:block}
.legend{display:flex;flex-wrap:wrap;gap:2px 18px;font-size:13.5px;margin:0 0 10px}
.legend span::before{content:"";display:inline-block;width:22px;margin-right:7px;vertical-align:middle;border-top:3px solid}
.legend .thin::before{border-top-width:1.5px;opacity:.6}
.legend .badged::before{border-top:1.5px dashed var(--mark)}
.legend .key{color:var(--soft)}
.legend i{font-style:normal;color:var(--ink)}
.chart{padding:0 14px 0 56px;font-size:12px;color:var(--soft)}
.ytitle{margin-left:-56px;margin-bottom:7px}.xtitle{text-align:center;margin-top:25px}
.lane{position:relative}.label{position:absolute;bottom:0;top:0;padding:0 0 0 5px;line-height:15px;font-size:11.5px;
white-space:nowrap;border-left:1px dashed var(--mark);color:var(--ink)}
.label.left{padding:0 5px 0 0;border-left:0;border-right:1px dashed var(--mark);transform:translateX(-100%);text-align:right}
.plot{position:relative;height:360px;border-bottom:1px solid var(--mark);touch-action:pan-y}
.plot.low{height:110px}
.plot svg{position:absolute;inset:0;width:100%;height:100%}
.plot path{fill:none;vector-effect:non-scaling-stroke;stroke-linejoin:round;stroke-linecap:round}
.grid{stroke:var(--grid);stroke-width:1px}.mark{stroke:var(--mark);stroke-width:1px;stroke-dasharray:4 4}
.line{stroke:currentColor;stroke-width:2px}.dots{stroke:currentColor;stroke-width:5px}
.train.line{stroke-width:1.2px;opacity:.36}
.run{color:var(--run)}.other{color:var(--other)}.tile.run,.tile.other{color:inherit}
.hidden{color:var(--hidden)}.ffn{color:var(--ffn)}.heads{color:var(--heads)}.layers{color:var(--layers)}.more{color:var(--more)}
.yt{position:absolute;right:100%;margin-right:8px;transform:translateY(-50%)}
.xt{position:absolute;top:100%;margin-top:5px;transform:translateX(-50%)}
.badge{position:absolute;transform:translateX(-50%);min-width:18px;height:18px;padding:0 4px;border-radius:9px;
background:var(--card);border:1px solid var(--mark);color:var(--ink);font-size:11px;line-height:16px;text-align:center}
td .badge{position:static;display:inline-block;transform:none}
.cursor{position:absolute;top:0;bottom:0;width:0;border-left:1px solid var(--soft);pointer-events:none}
.tip{position:absolute;top:26px;padding:7px 10px;border-radius:8px;background:var(--card);border:1px solid var(--edge);
box-shadow:0 4px 14px #0003;color:var(--ink);white-space:pre;pointer-events:none;z-index:2;font-size:12.5px;line-height:1.45}
.strip{display:grid;grid-template-columns:56px 1fr;column-gap:0;align-items:end;font-size:12.5px;padding-right:14px;margin-bottom:6px}
.strip .name{color:var(--soft);font-size:12px;padding-bottom:3px;white-space:nowrap}
.strip .track{position:relative;height:32px;border-bottom:1px solid var(--edge)}
.block{position:absolute;top:0;bottom:0;overflow:hidden;white-space:nowrap}
.block i{position:absolute;left:0;right:0;bottom:0;background:currentColor;opacity:.26;border-top:2px solid}
.block b{position:absolute;left:5px;bottom:1px;color:var(--ink);font-weight:600}
.wide{overflow-x:auto;margin:0 -20px -6px;padding:0 20px 6px}
table{border-collapse:collapse;width:100%;font-size:13.5px}
th{font-weight:500;color:var(--soft);text-align:right;font-size:12.5px}
th,td{padding:6px 10px;text-align:right;white-space:nowrap;border-bottom:1px solid var(--edge)}
th:first-child,td:first-child{padding-left:0}th:last-child,td:last-child{padding-right:0}
tr:last-child td{border-bottom:0}
.l{text-align:left}.new{font-weight:650}.same{color:var(--good)}
details summary{cursor:pointer;font-weight:600}
dl{display:grid;grid-template-columns:max-content 1fr;gap:3px 18px;margin:12px 0 0;font-size:13.5px}
dt{color:var(--soft)}dd{margin:0;overflow-wrap:anywhere;white-space:pre-wrap}
footer{color:var(--soft);font-size:12.5px}
@media (max-width:680px){main{padding:18px 12px 30px}.card{padding:15px 14px}.plot{height:280px}.lane{display:none}
.tiles{grid-template-columns:repeat(2,minmax(0,1fr));gap:9px}.tile .v{font-size:20px}h1{font-size:22px}
.chart{padding-left:44px;padding-right:8px}.ytitle{margin-left:-44px}.strip{grid-template-columns:44px 1fr;padding-right:8px}
.strip .name{grid-column:1/3;padding:2px 0 0}.strip .track{grid-column:2}.wide{margin:0 -14px -6px;padding:0 14px 6px}
dl{grid-template-columns:1fr}dd{margin-bottom:6px}}
@media print{body{background:#fff}.card,.tile{break-inside:avoid}}
)css";

// The pointer on a chart shows the nearest logged step of each run. Rows are [step, seconds, flops, tokens, loss,
// validation loss]; text only ever enters the page through textContent.
inline constexpr std::string_view report_script = R"js(
(() => {
  const runs = JSON.parse(document.getElementById("data").textContent);
  const column = {step: 0, seconds: 1, flops: 2, tokens: 3};
  const clock = s => { s = Math.round(s); const p = n => String(n).padStart(2, "0");
    return s < 3600 ? Math.floor(s / 60) + ":" + p(s % 60)
                    : Math.floor(s / 3600) + ":" + p(Math.floor(s / 60) % 60) + ":" + p(s % 60); };
  const nearest = (rows, key, x) => {
    let low = 0, high = rows.length - 1;
    while (low < high) { const mid = (low + high) >> 1; if (rows[mid][key] < x) low = mid + 1; else high = mid; }
    return low > 0 && x - rows[low - 1][key] < rows[low][key] - x ? rows[low - 1] : rows[low];
  };
  const loss = v => v === null ? "–" : v.toFixed(4);
  for (const plot of document.querySelectorAll(".plot.losses")) {
    const key = column[plot.dataset.x], low = Number(plot.dataset.low), high = Number(plot.dataset.high);
    const cursor = document.createElement("div"), tip = document.createElement("div");
    cursor.className = "cursor"; tip.className = "tip"; cursor.hidden = tip.hidden = true;
    plot.append(cursor, tip);
    const hide = () => { cursor.hidden = tip.hidden = true; };
    plot.addEventListener("pointerleave", hide);
    plot.addEventListener("pointercancel", hide);
    for (const kind of ["pointermove", "pointerdown"]) plot.addEventListener(kind, event => {
      const box = plot.getBoundingClientRect();
      const x = low + Math.min(1, Math.max(0, (event.clientX - box.left) / box.width)) * (high - low);
      const found = runs.filter(run => run.rows.length).map(run => [run.name, nearest(run.rows, key, x)]);
      if (!found.length) return;
      const at = found[0][1];
      tip.textContent = found.map(([name, r]) => name + "\n  step " + r[0] + ", " + clock(r[1]) + "\n  train " +
        loss(r[4]) + "\n  validation " + loss(r[5])).join("\n");
      cursor.hidden = tip.hidden = false;
      const share = Math.min(1, Math.max(0, (at[key] - low) / (high - low)));
      cursor.style.left = 100 * share + "%";
      tip.style.left = share < 0.5 ? "calc(" + 100 * share + "% + 10px)" : "auto";
      tip.style.right = share < 0.5 ? "auto" : "calc(" + 100 * (1 - share) + "% + 10px)";
    });
  }
})();
)js";

} // namespace reference
