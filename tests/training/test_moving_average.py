import keras
import numpy as np

from keras_fcn.training.moving_average import MovingAverage


def values(variables):
    return [keras.ops.convert_to_numpy(variable).item() for variable in variables]


def test_the_average_by_hand_and_the_weights_come_back():
    variables = [keras.Variable(1.0), keras.Variable(10.0)]
    average = MovingAverage(variables, decay=0.75)
    for factor in (1.0, 3.0, 5.0):
        variables[0].assign(factor)
        variables[1].assign(10 * factor)
        average.update()
    # 1, then 0.75 * 1 + 0.25 * 3 = 1.5, then 0.75 * 1.5 + 0.25 * 5 = 2.375
    with average.in_place():
        assert values(variables) == [2.375, 23.75]
    assert values(variables) == [5.0, 50.0]


def test_its_variables_are_all_that_the_next_update_follows_from():
    first, second = keras.Variable(2.0), keras.Variable(0.0)
    average, restored = MovingAverage([first], 0.5), MovingAverage([second], 0.5)
    average.update()
    for source, target in zip(average.variables, restored.variables, strict=True):
        target.assign(np.array(keras.ops.convert_to_numpy(source)))
    second.assign(4.0)
    restored.update()
    with restored.in_place():
        assert values([second]) == [3.0]
