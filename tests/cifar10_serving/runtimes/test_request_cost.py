from cifar10_serving.runtimes.request_cost import request_s


def test_cost_is_measured_and_stays_the_same() -> None:
    costs_s = [request_s() for _ in range(5)]
    assert min(costs_s) > 10e-6
    assert max(costs_s) < 0.1
    assert sorted(costs_s)[2] < 3 * min(costs_s)
