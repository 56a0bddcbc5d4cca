"""What the tables of CIFAR-10 and CIFAR-100 have in common."""

QUESTION = (
    '{} by ResNet-18, WRN-28-10 and PyramidNet-110, 200 epochs: does AUSAM '
    'reach the accuracy of SAM, at 60 % of its cost and at the cost of SGD? '
    'What of the settings is known is said in the README.md beside the '
    'configs.')


def configs(data):
    """The configs of the networks on ``data``, cifar10 or cifar100."""
    folder = f'../../configs/classification/{data}'
    return {network: dict(config=f'{folder}/{name}_b256_{data}.py')
            for network, name in {
                'ResNet-18': 'resnet18',
                'WRN-28-10': 'wrn28-10',
                'PyramidNet-110': 'pyramidnet110-a270'}.items()}
