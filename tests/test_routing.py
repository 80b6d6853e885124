"""Which devices are asked about an event."""

from localful_ws.routing import Router


def test_devices_by_user_in_the_order_they_came() -> None:
    router = Router[str]()
    for user, device in (("ada", "a1"), ("bob", "b1"), ("ada", "a2")):
        router.add(user, device)
    assert tuple(router.devices_of("ada")) == ("a1", "a2")
    assert tuple(router.devices_of("bob")) == ("b1",)
    assert tuple(router.devices_of("eve")) == ()
    assert (router.count("ada"), router.count("eve"), router.users()) == (2, 0, 2)
    assert sorted(router) == ["a1", "a2", "b1"]
    assert router.names() == ["ada", "bob"]


def test_removing() -> None:
    router = Router[str]()
    router.add("ada", "a1")
    router.add("ada", "a2")
    assert router.remove("ada", "a1")
    assert not router.remove("ada", "a1")
    assert not router.remove("ada", "unknown")
    assert not router.remove("eve", "a2")
    assert tuple(router.devices_of("ada")) == ("a2",)
    assert router.remove("ada", "a2")
    assert (router.users(), list(router)) == (0, [])


def test_what_was_asked_for_does_not_change_afterwards() -> None:
    router = Router[str]()
    router.add("ada", "a1")
    before = router.devices_of("ada")
    everybody = iter(router)
    router.add("ada", "a2")
    router.remove("ada", "a1")
    assert tuple(before) == ("a1",)
    assert list(everybody) == ["a1"]
