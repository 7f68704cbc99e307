"""The scripted telecom agent at a phone that does not work: it goes through the manual, step by step.

It knows nothing of what is wrong. It asks for what the manual has to be checked, and mends what a result shows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from slime_tau2.factory.dialogue import Script
from slime_tau2.factory.draft import TRANSFER, Call, Wish, write
from slime_tau2.factory.telecom.clerk import Clerk
from slime_tau2.factory.telecom.faults import BEST_MODE
from slime_tau2.factory.telecom.policy import REFUEL_LIMIT_GB
from slime_tau2.factory.telecom.speech_bills import buy, lift

FAILED = "No Connection"


class Repair:
    """One complaint, while it is being dealt with.

    Attributes:
        test: the phone's tool that shows whether it works: the status bar, a speed test, or whether MMS can be sent.
        fast: a speed test has to say excellent.
        ended: the user has been handed over.
    """

    def __init__(self, clerk: Clerk, wish: Wish):
        self.clerk, self.wish = clerk, wish
        self.test = next(call.name for call in wish.calls if call.requestor == "user")
        self.fast = any(a.func_name == "assert_internet_speed" for a in wish.assertions) or _wants_fast(wish)
        self.ended = False

    @property
    def solved(self) -> bool:
        """Whether the last test was good."""
        if self.test == "check_status_bar":
            return self.clerk.has_signal
        said = self.clerk.seen.get(self.test, "")
        if self.test == "run_speed_test":
            return FAILED not in said and (not self.fast or "Excellent" in said)
        return "can send" in said

    def run(self) -> Script[None]:
        """Test, and mend until the test is good."""
        clerk = self.clerk
        yield from clerk.phone(self.test, why=clerk.pick("Let's see how it stands.", "Let's check this first.", ""))
        if clerk.line.status == "Suspended":
            yield from self._suspended()
            if not self.ended:
                yield from self._again()
        for stage in self._stages():
            if self.solved or self.ended:
                break
            offline = self.test == "can_send_mms" and FAILED in clerk.seen.get("run_speed_test", "")
            if not (yield from stage()) or self.ended:
                continue
            if offline:
                yield from clerk.phone("run_speed_test", why=clerk.pick("Let's see if there is a connection now.", ""))
            if not offline or not self._offline():
                yield from self._again()
        if self.ended:
            return
        assert self.solved, "the manual mends whatever a draft has"
        clerk.helped = True
        clerk.note(
            clerk.pick(
                "Great, that works now.", "Good, so it is solved.", "That looks good.", "Very good, it works again."
            )
        )

    def _again(self) -> Script[None]:
        """Test again, unless the status bar says enough."""
        if self.test == "check_status_bar":
            return
        clerk = self.clerk
        if clerk.bar and not clerk.has_signal:
            return
        yield from clerk.phone(
            self.test, why=clerk.pick("Let's see if that was it.", "Let's test it again.", "Thank you.", "Good.")
        )

    def _stages(self) -> Sequence[Callable[[], Script[bool]]]:
        service = (self.airplane, self.sim, self.apn)
        data = (self.connection, self.mobile_data, self.roaming, self.used_up)
        speed = (self.saver, self.mode, self.vpn)
        messages = (self.two_g, self.wifi_calling, self.mmsc, self.permissions)
        if self.test == "check_status_bar":
            return service
        if self.test == "run_speed_test":
            return (*service, *data, *speed)
        return (*service, *data, *messages)

    # Stages: each says whether something was changed

    def airplane(self) -> Script[bool]:
        """Airplane mode is on."""
        clerk = self.clerk
        if not clerk.bar:
            yield from clerk.phone("check_status_bar")
        if "Airplane" not in clerk.bar:
            return False
        yield from clerk.phone("toggle_airplane_mode", why=clerk.pick("I see that Airplane Mode is on.", ""))
        return True

    def sim(self) -> Script[bool]:
        """No signal: the SIM card may be missing, or locked."""
        clerk = self.clerk
        if clerk.has_signal:
            return False
        said = yield from clerk.phone(
            "check_sim_status", why=clerk.pick("There is no signal yet.", "The phone still has no signal.")
        )
        if "locked" in said:
            yield from self._hand_over()
            return False
        if "No SIM" not in said:
            return False
        yield from clerk.phone("reseat_sim_card", why=clerk.pick("The phone doesn't see the SIM card.", ""))
        return True

    def apn(self) -> Script[bool]:
        """No signal: the APN settings may be wrong."""
        clerk = self.clerk
        if clerk.has_signal:
            return False
        said = yield from clerk.phone("check_apn_settings", why=clerk.pick("There is still no signal.", ""))
        if "broken" not in said and "Incorrect" not in said:
            return False
        yield from self._reset_apn()
        return True

    def _reset_apn(self) -> Script[None]:
        clerk = self.clerk
        yield from clerk.phone("reset_apn_settings", why=clerk.pick("These settings are not right.", ""))
        yield from clerk.phone("reboot_device")
        clerk.seen.pop("check_apn_settings", None)

    def mobile_data(self) -> Script[bool]:
        """Mobile data is off."""
        clerk = self.clerk
        if not self._offline():
            return False
        said = yield from clerk.phone("check_network_status")
        if "Mobile Data Enabled: No" not in said:
            return False
        yield from clerk.phone(
            "toggle_data", why=clerk.pick("Mobile data is off.", "I see that mobile data is disabled.")
        )
        return True

    def connection(self) -> Script[bool]:
        """Pictures need a data connection."""
        if self.test != "run_speed_test":
            yield from self.clerk.phone(
                "run_speed_test", why=self.clerk.pick("Picture messages need mobile data.", "Let's look at the data.")
            )
        return False

    def _offline(self) -> bool:
        """Whether there is no data connection."""
        return FAILED in self.clerk.seen["run_speed_test"]

    def roaming(self) -> Script[bool]:
        """Abroad, the phone and the line have to roam."""
        clerk = self.clerk
        if not self._offline():
            return False
        facts = [fact for fact in self.wish.facts if fact.name == "where you are"]
        yield from clerk.ask(
            facts, "Are you at home, or are you abroad at the moment?", "Where are you right now: at home, or abroad?"
        )
        if not any("on a trip" in fact.words for fact in facts):
            return False
        changed = False
        if "check_network_status" not in clerk.seen:
            yield from clerk.phone("check_network_status")
        if "Data Roaming Enabled: No" in clerk.seen["check_network_status"]:
            yield from clerk.phone(
                "toggle_roaming",
                why=clerk.pick("Abroad, Data Roaming has to be on in the phone.", "Data Roaming is off."),
            )
            changed = True
        if not clerk.line.roaming_enabled:
            yield from clerk.do([write("enable_roaming", **clerk.ids())])
            clerk.line.roaming_enabled = True
            clerk.note(
                clerk.pick(
                    "Your line was not enabled for roaming; I have enabled it, at no cost.",
                    "I have enabled roaming on your line, which is free of charge.",
                )
            )
            changed = True
        return changed

    def used_up(self) -> Script[bool]:
        """The plan's data are used up."""
        clerk = self.clerk
        if not self._offline():
            return False
        usage = yield from clerk.look_at_usage()
        limit = float(usage.data_limit_gb) + float(usage.data_refueling_gb)
        if float(usage.data_used_gb) <= limit:
            return False
        plan = yield from clerk.look_at_plan()
        added = float(usage.data_refueling_gb)
        words = f"You have used {usage.data_used_gb} GB, more than the {plan.data_limit_gb} GB of your plan"
        if added >= REFUEL_LIMIT_GB:
            yield from clerk.say(
                f"{words} and the {usage.data_refueling_gb} GB that were added to it, so data is cut off.",
                f"No more than {usage.data_refueling_gb} GB can be added. The other way is a plan with more data.",
            )
            yield from clerk.answer(
                clerk.voice.pick("I don't want another plan.", "I'd buy more data, but I don't want to change my plan.")
            )
            yield from self._hand_over()
            return False
        clerk.note(f"{words}, so data is cut off. I can add more data to your line.")
        yield from buy(clerk, self.wish, plan)
        return True

    def saver(self) -> Script[bool]:
        """Data Saver slows down."""
        clerk = self.clerk
        said = yield from clerk.phone("check_data_restriction_status")
        if "Data Saver mode is ON" not in said:
            return False
        yield from clerk.phone("toggle_data_saver_mode", why=clerk.pick("Data Saver slows the connection down.", ""))
        return True

    def mode(self) -> Script[bool]:
        """The phone prefers an old network."""
        clerk = self.clerk
        said = yield from clerk.phone("check_network_mode_preference")
        if not any(old in said for old in ("2g", "3g")) or BEST_MODE in said:
            return False
        yield from self._set_mode()
        return True

    def _set_mode(self) -> Script[None]:
        clerk = self.clerk
        yield from clerk.phone(
            "set_network_mode_preference",
            why=clerk.pick("That is an old kind of network.", "That mode is slow.", ""),
            mode=BEST_MODE,
        )

    def vpn(self) -> Script[bool]:
        """A slow VPN."""
        clerk = self.clerk
        said = yield from clerk.phone("check_vpn_status")
        if "VPN is ON" not in said or "poor" not in said.lower():
            return False
        yield from clerk.phone("disconnect_vpn", why=clerk.pick("The VPN performs poorly.", "That VPN is slow."))
        return True

    def two_g(self) -> Script[bool]:
        """Pictures need more than 2G."""
        clerk = self.clerk
        if "2G" not in clerk.bar:
            return False
        if "check_network_status" not in clerk.seen or "2G" not in clerk.seen["check_network_status"]:
            yield from clerk.phone("check_network_status")
        said = yield from clerk.phone(
            "check_network_mode_preference", why=clerk.pick("Your phone is on a 2G network, too old for pictures.", "")
        )
        if BEST_MODE in said:
            return False
        yield from self._set_mode()
        return True

    def wifi_calling(self) -> Script[bool]:
        """Wi-Fi calling may be in the way of pictures."""
        clerk = self.clerk
        said = yield from clerk.phone("check_wifi_calling_status")
        if "turned ON" not in said:
            return False
        yield from clerk.phone("toggle_wifi_calling", why=clerk.pick("It can interfere with picture messages.", ""))
        return True

    def mmsc(self) -> Script[bool]:
        """The address for pictures is missing."""
        clerk = self.clerk
        said = clerk.seen.get("check_apn_settings") or (yield from clerk.phone("check_apn_settings"))
        if "Not Set" not in said:
            return False
        yield from self._reset_apn()
        return True

    def permissions(self) -> Script[bool]:
        """The messaging app lacks a permission."""
        clerk = self.clerk
        said = yield from clerk.phone("check_app_permissions", app_name="messaging")
        lacking = [name for name in ("storage", "sms") if name not in said.split("permission for:")[-1]]
        for number, name in enumerate(lacking):
            why = "" if number else clerk.pick("The app needs storage and SMS.", "")
            yield from clerk.phone("grant_app_permission", why=why, app_name="messaging", permission=name)
        return bool(lacking)

    # Ends

    def _suspended(self) -> Script[None]:
        clerk = self.clerk
        ends = str(clerk.line.contract_end_date or "9999")
        if ends < clerk.today:
            yield from clerk.look_at_bills()
            yield from self._hand_over()
            return
        yield from lift(clerk)

    def _hand_over(self) -> Script[None]:
        calls = [call for call in self.wish.calls if call.name == TRANSFER]
        call: Call = calls[0]
        yield from self.clerk.transfer(call, self.wish)
        self.ended = True


def _wants_fast(wish: Wish) -> bool:
    """Whether the user will not be content with any connection."""
    return any("excellent" in line.lower() for line in (*wish.instructions, wish.reason))


def repair(clerk: Clerk, wish: Wish) -> Script[None]:
    """A phone that does not work."""
    yield from Repair(clerk, wish).run()
