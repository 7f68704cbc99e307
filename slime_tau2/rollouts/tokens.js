// A sample's tokens as a conversation that `Viewer.talk` shows. Arrays come as base64 (dumps/arrays.py), one number for
// each token that the policy sampled; what stands between its turns is the environment's and has none.
"use strict";
const Tokens = {};
(() => {
  const bytes = (base64) => Uint8Array.from(atob(base64), (c) => c.charCodeAt(0)).buffer;
  const ids = (base64) => new Int32Array(bytes(base64));
  const floats = (base64) => (base64 ? Array.from(new Float32Array(bytes(base64))) : null);
  const short = (x) => (x === null || Number.isNaN(x) ? null : +x.toFixed(3));
  const mean = (values) => { const known = values.filter((x) => x !== null); return known.length ? known.reduce((a, b) => a + b, 0) / known.length : null; };
  const said = (values) => (mean(values) ?? 0).toFixed(3).replace("-", "−");
  Tokens.mean = mean;

  const MARKS = /<\|im_start\|>\w*\n?|<\|im_end\|>|<\/?tool_response>/g;
  const bare = (text) => text.replace(MARKS, "").trim();

  function called(text) {
    const body = text.replace(/<\/?tool_call>/g, "").trim();
    try {
      const call = JSON.parse(body);
      return { name: String(call.name), arguments: call.arguments };
    } catch { return { name: "what cannot be read", arguments: body }; }
  }

  // block: what `Reader.tokens` gives; returns {prompt, talk, arrays: {sampler, trainer, advantage}}
  Tokens.read = (block, sample) => {
    const told = block.samples[sample];
    if (!told) return null;
    const piece = (id) => block.pieces[id] ?? `[${id}]`, words = (some) => Array.from(some, piece).join("");
    const response = ids(told.ids), messages = [];
    const whole = { sampler: floats(told.log_probs), trainer: floats(told.trainer), advantage: floats(told.advantages) };
    let done = 0, at = 0;
    const between = (until) => {
      const text = bare(words(response.slice(done, until)));
      if (!text) return;
      const tool = words(response.slice(done, until)).includes("<tool_response>");
      messages.push({ role: tool ? "tool" : "user", by: tool ? "agent" : "user", text, calls: [], error: false, turn: null });
    };
    told.trained.forEach(([start, end], index) => {
      between(start);
      const count = end - start, part = (of) => of && of.slice(at, at + count).map(short);
      const tokens = { text: Array.from(response.slice(start, end), piece), sampler: part(whole.sampler) };
      if (whole.trainer && part(whole.trainer).some((x) => x !== null)) tokens.trainer = part(whole.trainer);
      if (whole.advantage) tokens.advantage = part(whole.advantage);
      const turn = { index, partial: null, gain: told.turns[index].gain, tokens, notes: [`log-prob ${said(tokens.sampler)}`] };
      if (tokens.advantage) turn.advantage = mean(tokens.advantage);
      if (tokens.trainer) turn.notes.push(`trainer's ${said(tokens.trainer)}`);
      const calls = told.turns[index].calls.map((call) => ({
        ...called(words(response.slice(call.start, call.end))), gain: call.gain, wrong: call.wrong,
        ...(tokens.advantage ? { advantage: mean(tokens.advantage.slice(call.start - start, call.end - start)) ?? 0 } : {}),
      }));
      messages.push({ role: "assistant", by: "agent", text: tokens.text.join("").replace(/<\|im_end\|>\s*$/, ""), calls, error: false, turn });
      [done, at] = [end, at + count];
    });
    between(response.length);
    return { prompt: words(ids(block.prompts[told.prompt])), arrays: whole, talk: { messages, checks: [], faults: [], facts: [], database: null } };
  };
})();
