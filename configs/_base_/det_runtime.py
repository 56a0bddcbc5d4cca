_base_ = './default_runtime.py'

# Draws predictions for --show and --show-dir of tools/test.py.
default_hooks = dict(
    visualization=dict(type='DetVisualizationHook', draw=False))
visualizer = dict(type='DetLocalVisualizer')
