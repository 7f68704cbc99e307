"""How a person reads out what a phone shows: the tools' texts in words, with all that decides the next step."""

from __future__ import annotations

import re

ICONS = {
    "✈️ Airplane Mode": "[an airplane|the airplane symbol (Airplane Mode)|Airplane Mode]",
    "📵 No Signal": "[no signal|No Signal|no bars at all (No Signal)]",
    "📵 Data Disabled": "[data disabled|Data Disabled|mobile data is disabled]",
    "📱 Data Enabled": "[data enabled|Data Enabled|mobile data is enabled]",
    "🔒 VPN Connected": "[VPN connected|a lock with VPN|a VPN symbol]",
    "🔽 Data Saver": "[Data Saver|the Data Saver symbol]",
}
BARS = {"¹": "one bar", "²": "two bars", "³": "three bars", "⁴": "[four|full] bars"}
READ = (
    (
        r"You have a payment request for bill (\S+) of ([\d.]+) USD\.",
        r"[There is|I see|I have] [a|one] payment request "
        r"for bill \1, \2 [dollars|USD].",
    ),
    (
        r"Payment of ([\d.]+) USD has been made for bill (\S+?)\.",
        r"[I've paid|I have paid|I just paid] [it, |]\1 "
        r"[dollars|USD] for bill \2.",
    ),
    (
        r"Speed test failed: No Connection\.",
        r"[The speed test failed|It failed|The test doesn't work]: [it says no "
        r"connection|No Connection|there is no connection].",
    ),
    (
        r"Speed Test Result: ([\d.]+) Mbps \(([\w ]+)\)\. .*",
        r"[It says|The result is|I get|The speed test shows] \1 "
        r"Mbps, [rated|which it calls|that's] \2.",
    ),
    (r"Network Mode Preference: (\S+)", r"[It's set to|The preferred mode is|It says|It prefers] \1."),
    (r"Preferred Network Mode set to: (\S+)", r"[It's set to|The preferred mode is] \1 now."),
    (r"No SIM card detected in the phone\.", r"[It says|It shows] [that |]no SIM card [is|was] detected."),
    (r"Your SIM card is active and working\.", r"[It says that |]the SIM card is active and [working|works]."),
    (r"The SIM card is locked with a (\w+) code\.", r"[It says that |]the SIM card is locked with a \1 code."),
    (
        r"Your messaging app cannot send MMS messages\.",
        r"[It says|It tells me] that it [cannot|can't] send MMS"
        r"[| messages].",
    ),
    (
        r"Your messaging app can send MMS messages\.",
        r"[It says|It tells me|Yes, it says] that it can send MMS"
        r"[| messages][| now].",
    ),
    (r"(Airplane Mode|Mobile Data|Data Roaming|Data Saver Mode|Wi-Fi Calling) is now (ON|OFF)\.", r"\1 is \2[| now]."),
    (r"Wi-Fi Calling is currently turned (ON|OFF)\.", r"Wi-Fi Calling is [turned |]\1."),
    (r"Data Saver mode is ON .*", r"Data Saver [mode |]is ON."),
    (r"Data Saver mode is OFF\.", r"Data Saver [mode |]is OFF."),
    (r"SIM card re-seated successfully\.", r"[I took it out and put it back in|The SIM card is back in]."),
    (r"APN settings will reset at reboot\.", r"[It says that |]the APN settings will reset [at|with] the next reboot."),
    (r"Resetting APN settings\.\.\.", r"It [reset|was resetting] the APN settings."),
    (r"Restarting network services\.\.\.", r"[It restarted|It's on again|The phone has restarted]."),
    (r"VPN disconnected successfully\.", r"The VPN is [disconnected|off][| now]."),
    (
        r"VPN is ON and connected\. Details: .*'server_performance': <PerformanceLevel\.\w+: '(\w+)'>.*",
        r"[The|A] VPN is ON and connected; [the server performance is|it says that the server's performance is] \1.",
    ),
    (r"App '(\w+)' has permission for: (.+)\.", r"[The \1 app|It] has permission for: \2."),
    (r"Success\. Permission '(\w+)' granted to app '(\w+)'\.", r"[The \2 app has|It has] the \1 permission[| now]."),
    (r"Current APN Name: (.+)", r"[The APN name is|APN name:|The APN is called] \1;"),
    (r"MMSC URL \(for picture messages\): Not Set", r"the MMSC URL[| for picture messages] is not set."),
    (r"MMSC URL \(for picture messages\): (\S+)", r"the MMSC URL is \1"),
)
"""(a line of a tool's text, how it is read out)."""


def bar(icons: str) -> str:
    """A status bar: "📶⁴ Excellent | 5G | 🔋 80%" is "full bars (excellent), 5G, battery at 80%"."""
    words = []
    for icon in icons.split(" | "):
        signal = re.fullmatch(r"📶(.) (\w+)", icon)
        if signal:
            words.append(f"{BARS.get(signal[1], 'a signal')} ({signal[2].lower()})")
        elif icon.startswith("🔋"):
            words.append(f"[battery at |the battery at |battery ]{icon.removeprefix('🔋 ')}")
        else:
            words.append(ICONS.get(icon, icon))
    return ", ".join(words)


def network(text: str) -> str:
    """The network status, without what is about Wi-Fi."""
    shown = dict(line.split(": ", 1) for line in text.split("\n") if ": " in line)
    on = {"Yes": "on", "No": "off"}
    signal = shown.get("Cellular Signal", "none")
    kind = shown.get("Cellular Network Type", "none")
    parts = [
        f"Airplane Mode is {shown.get('Airplane Mode', 'OFF')}",
        f"[the SIM card is|SIM card] {shown.get('SIM Card Status', 'unknown')}",
        f"[it is|cellular] {shown.get('Cellular Connection', 'unknown')}[ with|:] signal {signal}, network type {kind}",
        f"mobile data is {on.get(shown.get('Mobile Data Enabled', ''), 'unknown')}",
        f"data roaming is {on.get(shown.get('Data Roaming Enabled', ''), 'unknown')}",
    ]
    return f"[It says: |I see: |Here it is: |]{', '.join(parts[:-1])}[ and|,] {parts[-1]}."


def read_out(text: str) -> str:
    """What a tool has said, but for the status bar."""
    if text.startswith("Airplane Mode: "):
        return network(text)
    lines = [line.removeprefix("- ").strip() for line in text.split("\n")]
    words = [_line(line) for line in lines if line and not line.startswith(("Status Bar: ", "(These are"))]
    said = " ".join(words)
    return said if not said or said.endswith((".", "!", "?")) or said.split()[-1].startswith("http") else f"{said}."


def _line(line: str) -> str:
    for pattern, words in READ:
        found = re.fullmatch(pattern, line)
        if found:
            return found.expand(words)
    return line
